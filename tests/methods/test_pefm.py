"""PEFM: the described sizes, unit vectors, each network predicted by the other, positions that count."""

import pytest
import torch

from nfbench.backbones._base import find_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.blocks.positional import sinusoidal_code
from nfbench.core.errors import NfbenchError

SHAPES = [LevelShape(8, 8, 8), LevelShape(12, 4, 4), LevelShape(16, 8, 8), LevelShape(20, 4, 4)]


def build(shapes=SHAPES, seed=0, **overrides):
    settings = resolve_settings("pefm", overrides={"latent_channels": (12, 16), **overrides})
    return build_method("pefm", shapes, settings, (32, 32), seed)


def images(count, seed=0, shapes=SHAPES):
    """Features that differ little between images, and much between positions."""
    usual, own = (torch.Generator().manual_seed(number) for number in (7, seed))
    return Features([torch.randn(s, generator=usual) + 0.05 * torch.randn(count, *s, generator=own) for s in shapes])


def train(method, features, steps, lr=1e-2):
    optimizer = torch.optim.Adam(method.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        method.loss(features).backward()
        optimizer.step()
    return method.eval()


@pytest.mark.parametrize("position_code", [True, False])
def test_the_mappings_have_the_described_numbers_of_parameters(position_code):
    shapes = [LevelShape(*shape) for shape in find_backbone("resnet34_50").shapes(256)]
    settings = resolve_settings("pefm", overrides={"position_code": position_code})
    method = build_to_count("pefm", shapes, settings, (256, 256))
    sizes = [sum(p.numel() for p in mapping.parameters()) for mapping in method.mappings]
    assert sizes == [894_312, 3_559_888, 17_100_532]
    assert count_parameters(method)["total"] == 21_554_732


def test_scores_and_loss_are_those_of_unit_vectors_and_their_predictions():
    method = build().eval()
    features = images(2)
    a, _, b, _ = units = [level / level.square().sum(1, keepdim=True).sqrt() for level in features.levels]
    maps, loss = [], 0
    for first in range(2):
        x, y = units[first], units[first + 2]
        of_y, of_x = method.mappings[first](*(u + sinusoidal_code(*u.shape[1:]) for u in (x, y)))
        loss = loss + (x - of_x).square().mean() + (y - of_y).square().mean()
        half = ((x - of_x).square().sum(1) + (y - of_y).square().sum(1)) / 2
        maps.append(torch.nn.functional.interpolate(half[:, None], (32, 32), mode="bilinear")[:, 0])
    scores = method.score(features)
    torch.testing.assert_close(scores.maps, (maps[0] + maps[1]) / 2)
    torch.testing.assert_close(scores.images, scores.maps.amax((1, 2)))
    torch.testing.assert_close(method.loss(features), loss)
    scaled = Features([3 * level for level in features.levels])
    torch.testing.assert_close(method.score(scaled).maps, scores.maps)
    assert a.shape[1] != b.shape[1]


def test_what_was_trained_is_predicted_and_what_moved_is_not_where_positions_count():
    """A rolled image has the usual vectors at other positions."""
    features, new = images(8), images(8, seed=1)
    rolled = Features([level.roll(level.shape[-1] // 2, dims=3) for level in new.levels])
    rise = {}
    for coded in (True, False):
        method = train(build(position_code=coded, latent_channels=(48, 48)), features, 80, 2e-2)
        assert method.score(features).images.max() < 0.05
        rise[coded] = (method.score(rolled).images / method.score(new).images).mean()
    assert rise[True] > 2
    assert rise[False] < 1.1


def test_a_mapping_sees_one_network_alone():
    """What the second network shows changes the predictions of the first one's features alone."""
    method = build().eval()
    a, b = torch.randn(2, 8, 4, 4), torch.randn(2, 16, 4, 4)
    to_b, to_a = method.mappings[0](a, b)
    other_b, other_a = method.mappings[0](a, b + 1)
    assert to_b.shape == b.shape
    assert to_a.shape == a.shape
    torch.testing.assert_close(to_b, other_b)
    assert not torch.equal(to_a, other_a)


@pytest.mark.parametrize("shapes", [SHAPES[:3], [SHAPES[0], SHAPES[2], SHAPES[1], SHAPES[3]], SHAPES[::-1][1:]])
def test_levels_that_are_no_pairs_are_refused(shapes):
    with pytest.raises(NfbenchError, match=r"needs the levels of two networks.* give it the backbone 'resnet34_50'"):
        build(shapes)


def test_a_width_is_needed_for_each_level():
    with pytest.raises(NfbenchError, match=r"'latent_channels' of method 'pefm' has 3 values.* has 2 levels"):
        build(latent_channels=(4, 4, 4))


def test_channels_that_have_no_code_are_refused():
    shapes = [LevelShape(6, 8, 8), LevelShape(8, 8, 8)]
    with pytest.raises(
        NfbenchError, match=r"'position_code' of method 'pefm' needs levels .*\[6, 8\]; set it to false"
    ):
        build(shapes, latent_channels=(4,))
    build(shapes, latent_channels=(4,), position_code=False)
