"""The lazy coreset selection against the plain loop it stands for."""

import itertools

import pytest
import torch

from nfbench.blocks import coreset
from nfbench.blocks.coreset import select_coreset
from nfbench.core.errors import NfbenchError

pytestmark = pytest.mark.slow


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
    """Normal values in steps of 2^-12, which fixed-point numbers hold: there both loops are free of rounding."""
    points = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return (points * 4096).round() / 4096


def clustered(n, dim):
    centres = 5 * random_points(20, dim, 1)
    return centres[torch.arange(n) % 20] + random_points(n, dim, 2) / 8


def ties(n, dim):
    """Few values, so that most points are duplicates and most distances are equal to others."""
    return torch.randint(0, 2, (n, dim), generator=torch.Generator().manual_seed(3)).float()


DATA = {
    "random": random_points(2000, 24),
    "clustered": clustered(2000, 24),
    "offset": random_points(2000, 16) + 1000,
    "ties": ties(2000, 8),
    "duplicates": random_points(200, 24).repeat(12, 1),
    "lattice": torch.cartesian_prod(*[torch.arange(5.0)] * 4),
    "equal": torch.full((500, 6), 0.1),
    "two values": torch.tensor([0.3, 0.7]).repeat(300)[:, None],
    "one dimension": random_points(400, 1),
}


@pytest.mark.parametrize(
    ("pool_size", "rows", "columns"), [(1, 1024, 256), (50, 32, 5), (700, 32, 5), (8192, 1024, 256)]
)
@pytest.mark.parametrize("start", [7, torch.tensor([3, 99, 4, 3, 250])], ids=["point", "mean"])
@pytest.mark.parametrize("data", DATA)
def test_same_selection_as_the_plain_loop(data, start, pool_size, rows, columns, monkeypatch):
    monkeypatch.setattr(coreset, "_ROWS", rows)
    monkeypatch.setattr(coreset, "_COLUMNS", columns)
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


def test_mean_distance_stays_in_the_minimum():
    line = torch.tensor([0.0, 2, 4])[:, None]
    # distances 0, 2 and 4 to the anchor 0: it comes last, although it is the farthest point from the first centre
    assert select_coreset(line, 3, torch.tensor([0])).tolist() == [2, 1, 0]
    assert select_coreset(line, 3, 2).tolist() == [2, 0, 1]


def float32_points(n, dim):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(("scale", "offset"), [(1e-4, 1), (30 / 7, 0)])
def test_float32_points_are_farthest_up_to_its_rounding(scale, offset):
    points = scale * float32_points(800, 30) + offset
    x = points.double()
    bounds = torch.full((800,), torch.inf, dtype=torch.float64)
    for centre, after in itertools.pairwise(select_coreset(points, 100, 5, 64).tolist()):
        bounds = torch.minimum(bounds, (x - x[centre]).norm(dim=1))
        assert bounds[after] >= (1 - 1e-5) * bounds.max()


@pytest.mark.parametrize("pool_size", [37, 900])
def test_duplicates_are_at_distance_0(pool_size):
    points = float32_points(200, 30).repeat(12, 1)
    found = select_coreset(points, 300, 0, pool_size)
    assert torch.equal(found[:200].sort().values, torch.arange(200))  # the first copy of each
    assert torch.equal(found[200:], torch.arange(200, 300))


def test_count_and_values_are_checked():
    points = random_points(10, 3)
    for count in (0, 11):
        with pytest.raises(ValueError, match="'count' must be 1 to 10"):
            select_coreset(points, count)
    points[4, 1] = torch.nan
    with pytest.raises(NfbenchError, match="NaN or infinity"):
        select_coreset(points, 3)
