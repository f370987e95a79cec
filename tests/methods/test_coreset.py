"""The lazy coreset selection against the plain loop it stands for."""

import pytest
import torch

from nfbench.errors import NfbenchError
from nfbench.methods.base_coreset import select_coreset


def plain_greedy(points, count, start):
    """Greedy k-centre as it is described: every centre against every point, by differences in float64."""
    x = points.double()
    if isinstance(start, int):
        bounds, best = torch.full((len(x),), torch.inf, dtype=torch.float64), start
    else:
        bounds = (sum((x - x[a]).square().sum(1).sqrt() for a in start) / len(start)).square()
        best = int(bounds.argmax())
    chosen = []
    while True:
        chosen.append(best)
        if len(chosen) == count:
            return torch.tensor(chosen)
        bounds = torch.minimum(bounds, (x - x[best]).square().sum(1))
        bounds[chosen] = -1
        best = int(bounds.argmax())


def random_points(n, dim, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def clustered(n, dim):
    centres = 5 * random_points(20, dim, 1)
    return centres[torch.arange(n) % 20] + 0.1 * random_points(n, dim, 2)


def ties(n, dim):
    """Few values, so that most points are duplicates and most distances are equal to others."""
    return torch.randint(0, 2, (n, dim), generator=torch.Generator().manual_seed(3)).float()


DATA = {
    "random": random_points(3000, 24),
    "clustered": clustered(3000, 24),
    "offset": random_points(2000, 16) + 1000,
    "ties": ties(2000, 8),
    "lattice": torch.cartesian_prod(*[torch.arange(5.0)] * 4),
    "equal": torch.full((500, 6), 0.1),
    "two values": torch.tensor([0.3, 0.7]).repeat(300)[:, None],
    "one dimension": random_points(400, 1),
}


@pytest.mark.parametrize("pool_size", [1, 50, 700, 8192])
@pytest.mark.parametrize("start", [7, torch.tensor([3, 99, 4, 3, 250])], ids=["point", "mean"])
@pytest.mark.parametrize("data", DATA)
def test_same_selection_as_the_plain_loop(data, start, pool_size):
    points = DATA[data]
    count = 20 if pool_size == 1 else len(points) // 8
    found = select_coreset(points, count, start, pool_size)
    assert torch.equal(found, plain_greedy(points, count, start))


@pytest.mark.parametrize("data", ["random", "ties", "equal"])
@pytest.mark.parametrize("pool_size", [60, 8192])
def test_all_points_are_selected_once(data, pool_size):
    points = DATA[data][:300]
    found = select_coreset(points, 300, 0, pool_size)
    assert torch.equal(found.sort().values, torch.arange(300))
    assert torch.equal(found, plain_greedy(points, 300, 0))


def test_first_of_equally_far_points():
    line = torch.tensor([0.0, 1, 2, 3, 4])[:, None]
    assert select_coreset(line, 5, 0).tolist() == [0, 4, 2, 1, 3]
    assert select_coreset(line, 3, 2).tolist() == [2, 0, 4]
    assert select_coreset(torch.ones(4, 3), 4, 2).tolist() == [2, 0, 1, 3]


def test_mean_distance_bounds_the_minimum():
    # 4 is farthest from the anchors; once it is in, 3 is at most its mean distance 2 away, though 0 and 4 are farther
    line = torch.tensor([0.0, 2, 4])[:, None]
    assert select_coreset(line, 3, torch.tensor([0])).tolist() == [2, 1, 0]
    # without the mean distance kept, 0 would come second: it is 4 away from the first centre, but 0 from the anchor
    assert select_coreset(line, 3, 2).tolist() == [2, 0, 1]


def test_points_that_differ_little_beside_their_norm():
    points = 1 + 1e-5 * random_points(500, 12)
    found = select_coreset(points, 60, 0, 64)
    assert torch.equal(found, plain_greedy(points, 60, 0))


def test_count_and_values_are_checked():
    points = random_points(10, 3)
    for count in (0, 11):
        with pytest.raises(ValueError, match="'count' must be 1 to 10"):
            select_coreset(points, count)
    points[4, 1] = torch.nan
    with pytest.raises(NfbenchError, match="NaN or infinity"):
        select_coreset(points, 3)
