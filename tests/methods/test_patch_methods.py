"""Common behaviour of PatchCore, PaDiM and SimpleNet: embeddings, a planted anomaly, states, faults."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, load_method
from nfbench.blocks.patches import PatchEmbedding
from nfbench.core.errors import NfbenchError
from tests.methods.patch_models import METHODS, SHAPES, build, draw, fit

# embeddings


def pool_by_hand(values, dim):
    """Average over the windows [floor(i n / d), ceil((i + 1) n / d))."""
    n = values.shape[-1]
    windows = [values[..., i * n // dim : -(-(i + 1) * n // dim)].mean(-1) for i in range(dim)]
    return torch.stack(windows, dim=-1)


@pytest.mark.parametrize(("pretrain", "target"), [(24, 24), (20, 20), (16, 31), (50, 7)])
def test_official_embedding_is_the_published_sequence(pretrain, target):
    features = draw(3).levels
    levels = []
    for x in features:
        around = functional.unfold(x, 3, padding=1).unflatten(2, x.shape[2:])
        around = functional.interpolate(around, (16, 16), mode="bilinear", align_corners=False)
        levels.append(pool_by_hand(around.flatten(2).mT, pretrain))
    expected = pool_by_hand(torch.stack(levels, dim=2).flatten(2), target)
    embedding = PatchEmbedding(SHAPES, pretrain, target, "official")
    torch.testing.assert_close(embedding(features), expected, atol=1e-5, rtol=1e-5)
    assert (embedding.dim, embedding.grid) == (target, (16, 16))


def test_official_embedding_of_simplenet_averages_rows_of_the_neighbourhood():
    # one level of 8 channels to 24 values: 3 for each channel, one for each row of its 3 x 3 neighbourhood
    (x,) = draw(2, SHAPES[:1]).levels
    rows = PatchEmbedding(SHAPES[:1], 24, 24, "official")([x])
    padded = functional.pad(x, [1] * 4)
    at = (1, 5, 9)  # image, row, column
    expected = [padded[at[0], c, at[1] + r, at[2] : at[2] + 3].mean() for c in range(8) for r in range(3)]
    torch.testing.assert_close(rows[at[0], at[1] * 16 + at[2]], torch.stack(expected))


def test_halves_of_the_official_embedding_depend_on_one_level_each():
    embedding = PatchEmbedding(SHAPES, 24, 24, "official")
    fine, coarse = draw(2).levels
    before, moved_coarse, moved_fine = (embedding(x) for x in ([fine, coarse], [fine, -coarse], [-fine, coarse]))
    assert torch.equal(before[..., :12], moved_coarse[..., :12])
    assert torch.equal(before[..., 12:], moved_fine[..., 12:])
    assert ((before - moved_coarse)[..., 12:] != 0).all()
    assert ((before - moved_fine)[..., :12] != 0).all()


def test_average_embedding_keeps_all_channels():
    features = draw(2).levels
    embedding = PatchEmbedding(SHAPES, 5, 5, "average")
    patches = embedding(features)
    assert patches.shape == (2, 256, 20)
    assert embedding.dim == 20
    expected = features[0][1, :, 4:7, 9:12].mean((1, 2))
    torch.testing.assert_close(patches[1, 5 * 16 + 10, :8], expected)


# what all three keep


@pytest.mark.parametrize("n_levels", [1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_shapes_and_state(name, n_levels):
    shapes = [*SHAPES, LevelShape(5, 3, 3)][:n_levels]
    features = draw(6, shapes)
    model = fit(build(name, shapes), features) if name != "simplenet" else build(name, shapes).eval()
    scores = model.score(features)
    assert scores.maps.shape == (6, 64, 64)
    assert scores.images.shape == (6,)
    alone = model.score(features[2:3])
    torch.testing.assert_close(alone.maps[0], scores.maps[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.images[0], scores.images[2], atol=1e-5, rtol=1e-5)
    again = load_method(build(name, shapes, seed=1), model.state_dict())
    assert torch.equal(again.score(features).maps, scores.maps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", METHODS)
def test_planted_anomaly_is_found_at_its_place(name, seed):
    generator = torch.Generator().manual_seed(seed)
    means = [1 + torch.rand(1, shape.channels, 1, 1, generator=generator) for shape in SHAPES]
    normal, test = (
        Features([mean + 0.3 * x for mean, x in zip(means, draw(n, seed=10 * seed + n).levels, strict=True)])
        for n in (16, 4)
    )
    # the noise of SimpleNet has to suit the scale of the features
    overrides = {"noise_std": 0.5, "hidden_dim": 64} if name == "simplenet" else {}
    model = fit(build(name, seed=seed, **overrides), normal)
    places = [(slice(11, 14), slice(3, 6)), (slice(5, 7), slice(1, 3))]  # rows 40 to 55, columns 8 to 23 of the map
    for x, (rows, columns) in zip(test.levels, places, strict=True):
        x[2, :, rows, columns] += 3 * torch.randn(x.shape[1], 1, 1, generator=generator)
    with torch.no_grad():
        scores = model.score(test)
    assert scores.images.argmax() == 2
    assert scores.maps.flatten(1).amax(1).argmax() == 2
    row, column = divmod(int(scores.maps[2].argmax()), 64)
    assert 40 <= row <= 55
    assert 8 <= column <= 23


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_maps_are_smoothed_by_pixels(name):
    features = draw(6)
    rough, fine = fit(build(name, smoothing=0), features) if name != "simplenet" else build(name, smoothing=0), None
    rough.eval()
    fine = load_method(build(name, smoothing=3), rough.state_dict())
    expected = gaussian_filter(rough.score(features).maps.numpy(), (0, 3, 3))
    torch.testing.assert_close(fine.score(features).maps, torch.from_numpy(expected))


@pytest.mark.parametrize("name", ["patchcore", "padim"])
def test_nothing_is_trained_by_gradient(name):
    model = build(name)
    assert not list(model.parameters())
    assert model.parameter_groups() == {}
    with pytest.raises(NfbenchError, match="setting 'epochs' of method"):
        build(name, epochs=3)
