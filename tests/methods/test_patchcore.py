"""PatchCore: the memory bank, its selection, exact distances, bounded memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, load_method
from nfbench.blocks.patches import PatchEmbedding
from nfbench.core.errors import NfbenchError
from nfbench.methods.patchcore import nearest_neighbors
from tests.methods.patch_models import SHAPES, build, draw, fit


def known_bank(model, bank):
    return load_method(model, {"memory_bank": bank})


@torch.no_grad()
def test_patchcore_on_constant_images():
    """Of equal images a coreset of distinct rows remains; interior patches of a shifted image are |shift|^2 away."""
    constant = Features([torch.full((5, *shape), 2.0) for shape in SHAPES])
    model = fit(build("patchcore", embedding="average", coreset_ratio=0.3), constant)
    assert model.memory_bank.shape == (int(5 * 256 * 0.3), 20)
    assert model.score(constant).images.abs().max() < 1e-9
    shifted = model.score(constant.map(lambda x: x + 0.5))
    torch.testing.assert_close(shifted.images, torch.full((5,), 20 * 0.5**2))


@torch.no_grad()
def test_patchcore_keeps_the_patches_that_the_selection_names():
    features = draw(6)
    model = fit(build("patchcore", coreset_ratio=0.05), features, batch=4)
    patches = model.embedding(features.levels).flatten(0, 1)
    chosen = model.select(patches @ model.projection.T)
    assert len(chosen.unique()) == int(6 * 256 * 0.05)
    assert torch.equal(model.memory_bank, patches[chosen.sort().values])
    other = fit(build("patchcore", coreset_ratio=0.05, seed=1), features)
    assert not torch.equal(model.memory_bank, other.memory_bank)
    again = fit(build("patchcore", coreset_ratio=0.05), features, batch=5)
    torch.testing.assert_close(model.memory_bank, again.memory_bank)


def test_patchcore_projects_as_torch_initializes_a_linear_layer():
    model = build("patchcore", pretrain_dim=900, target_dim=900, projection_dim=128)
    assert model.projection.shape == (128, 900)
    assert abs(float(model.projection.std()) - (1 / 30) / 3**0.5) < 1e-4
    assert float(model.projection.abs().max()) <= 1 / 30
    assert "projection" not in model.state_dict()
    assert build("patchcore", projection_dim=20).projection is None


@torch.no_grad()
def test_patchcore_starts_from_ten_points_or_one():
    points = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    mean, point = (build("patchcore", start=start, coreset_ratio=0.02) for start in ("mean", "point"))
    anchors = (mean.start_points * 500).long()
    distances = torch.stack([(points - points[a]).norm(dim=1) for a in anchors]).mean(0)
    assert mean.select(points)[0] == distances.argmax()
    assert point.select(points)[0] == anchors[0]
    assert len(mean.select(points)) == len(point.select(points)) == 10
    assert len(build("patchcore", coreset_ratio=0.001).select(points)) == 1


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
@pytest.mark.parametrize("neighbors", [1, 3, 100])
@torch.no_grad()
def test_patchcore_averages_the_distances_to_its_neighbors(distance, neighbors):
    bank = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    overrides = {"embedding": "average", "distance": distance, "neighbors": neighbors, "smoothing": 0}
    model = known_bank(build("patchcore", size=16, **overrides), bank)
    features = draw(2)
    distances = torch.cdist(model.embedding(features.levels).double(), bank.double())
    distances = distances.square() if distance == "squared" else distances
    expected = distances.sort(2).values[..., :neighbors].mean(2).view(2, 16, 16).float()
    scores = model.score(features)
    torch.testing.assert_close(scores.maps, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.images, expected.flatten(1).amax(1), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_patchcore_reweighting_is_equation_7():
    bank = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    overrides = {"embedding": "average", "distance": "euclidean"}
    plain = known_bank(build("patchcore", **overrides), bank)
    model = known_bank(build("patchcore", reweighting=True, reweighting_neighbors=5, **overrides), bank)
    features = draw(3)
    patches = model.embedding(features.levels)
    for number, image in enumerate(patches):
        distances, nearest = torch.cdist(image, bank).min(1)
        worst = int(distances.argmax())
        around = torch.cdist(bank[nearest[worst]][None], bank)[0].argsort()[:5]
        others = (image[worst] - bank[around]).norm(dim=1)
        weight = 1 - torch.exp(distances[worst]) / torch.exp(others).sum()
        torch.testing.assert_close(model.score(features).images[number], weight * distances[worst])
        assert weight < 0.95
    assert torch.equal(plain.score(features).maps, model.score(features).maps)


@torch.no_grad()
def test_distances_that_are_small_beside_the_norms():
    bank = 100 + torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    squared, indices = nearest_neighbors(bank + 1e-3, bank, 1)
    assert torch.equal(indices[:, 0], torch.arange(300))
    torch.testing.assert_close(squared, torch.full((300, 1), 64e-6), rtol=0.02, atol=0)
    assert torch.equal(nearest_neighbors(bank, bank, 1)[0], torch.zeros(300, 1))


class LargestTensor(TorchDispatchMode):
    """Notes the number of values of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else (result,)
        self.largest = max([self.largest, *(x.numel() for x in tensors if isinstance(x, torch.Tensor))])
        return result


@torch.no_grad()
def test_search_and_embedding_take_bounded_memory():
    bank = torch.randn(20_000, 16)
    with LargestTensor() as mode:
        squared, _ = nearest_neighbors(torch.randn(4 * 784, 16), bank, 1)
    assert squared.shape == (3136, 1)
    assert 2**23 < mode.largest <= 2**24  # all at once would be 62.7 million values, 3.7 times as many
    features = [torch.randn(10, 64, 16, 16), torch.randn(10, 128, 8, 8)]
    embedding = PatchEmbedding([LevelShape(64, 16, 16), LevelShape(128, 8, 8)], 16, 16, "official")
    with LargestTensor() as mode:
        embedding(features)
    assert mode.largest == 9 * 64 * 16 * 16  # the neighbourhoods in one level of one image


def test_patchcore_without_a_bank():
    with pytest.raises(NfbenchError, match="memory bank of PatchCore is empty"):
        build("patchcore").score(draw(1))
