"""SPADE: distances are those of a search by brute force, training images are at distance 0, memory is bounded."""

import math

import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.maps import resize_maps, smooth
from nfbench.blocks.method import LevelShape, build_method, build_to_count, load_method, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.methods import spade
from tests.methods.test_patchcore import LargestTensor

SHAPES = [LevelShape(8, 16, 16), LevelShape(12, 8, 8), LevelShape(16, 4, 4)]


def build(shapes=SHAPES, **overrides):
    return build_method("spade", shapes, resolve_settings("spade", overrides=overrides), (64, 64), 0)


def draw(count, seed=0):
    """As a cache gives them, rounded to fp16."""
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(count, *shape, generator=generator).half().float() for shape in SHAPES])


def fit(model, features, batch=4):
    model.train().prepare(lambda: [features[first : first + batch] for first in range(0, len(features), batch)])
    return model.eval()


def brute_force(train, test, neighbors, smoothing=4.0):
    """Maps and image scores of the definition, in float64."""
    vectors = [part.levels[-1].double().mean((2, 3)) for part in (test, train)]
    distances, similar = torch.cdist(*vectors).topk(neighbors, largest=False)
    maps = []
    for tested, trained in zip(test.levels[:-1], train.levels[:-1], strict=True):
        found = []
        for image, rows in zip(tested.double(), similar, strict=True):
            gallery = trained[rows].double().permute(0, 2, 3, 1).flatten(0, 2)
            found.append(torch.cdist(image.flatten(1).T, gallery).amin(1).view(image.shape[1:]))
        maps.append(torch.stack(found))
    return smooth(resize_maps(maps, (64, 64)).mean(0), smoothing), distances.mean(1)


@pytest.mark.parametrize("neighbors", [1, 3, 9])
def test_scores_are_those_of_the_definition(neighbors):
    """With as many neighbours as images, an image scores as its mean distance to all of them."""
    train, test = draw(9), draw(4, seed=1)
    scores = fit(build(neighbors=neighbors), train).score(test)
    maps, images = brute_force(train, test, neighbors)
    torch.testing.assert_close(scores.maps.double(), maps, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.images.double(), images, atol=1e-5, rtol=1e-5)
    if neighbors == 9:
        vectors = [part.levels[-1].mean((2, 3)) for part in (test, train)]
        torch.testing.assert_close(scores.images, torch.cdist(*vectors).mean(1))


def test_a_training_image_is_at_distance_0_also_where_it_was_moved():
    """Positions are compared with all positions: an image whose content moved is as normal as before."""
    train = draw(6)
    model = fit(build(neighbors=1), train)
    moved = Features([level.roll((1, 2), (2, 3)) for level in train.levels])
    for features in (train, moved):
        scores = model.score(features)
        assert scores.maps.abs().max() == 0
        assert scores.images.abs().max() < 1e-6
    assert model.score(draw(2, seed=1)).maps.min() > 0.1


def test_levels_count_alike_and_the_last_one_for_images_alone():
    train = draw(6)
    model = fit(build(neighbors=6, smoothing=0), train)
    usual = model.score(train).images.max()
    for number, shape in enumerate(SHAPES):
        shifted = Features([level + 10 * (place == number) for place, level in enumerate(train.levels)])
        scores, last = model.score(shifted), number == len(SHAPES) - 1
        assert (scores.images > 10 * usual).all() == last
        # 10 in each channel of one of two levels, if the nearest position is the same one
        bound = 0 if last else 10 * math.sqrt(shape.channels) / 2 + 1e-4
        assert (not last) * 1.0 <= scores.maps.max() <= bound


def test_the_order_of_the_training_images_and_their_batches_decide_nothing():
    train, test = draw(9), draw(3, seed=1)
    first = fit(build(), train).score(test)
    other = fit(build(), train[torch.randperm(9)], batch=5).score(test)
    torch.testing.assert_close(first.maps, other.maps)
    torch.testing.assert_close(first.images, other.images)


def test_the_gallery_holds_the_features_of_a_cache_unchanged_in_half_the_memory():
    train = draw(5)
    model = fit(build(), train)
    for name, level in zip(("gallery0", "gallery1"), train.levels, strict=False):
        assert torch.equal(getattr(model, name).float(), level.flatten(2).mT)
    again = load_method(build(), model.state_dict())
    assert torch.equal(model.score(draw(2, seed=1)).maps, again.score(draw(2, seed=1)).maps)
    assert {name: len(value) for name, value in model.state_dict().items()} == model.grown_rows(5)


def test_the_size_of_the_published_model():
    """1,404,928 values an image, besides the 2,048 that similar images are found by."""
    shapes = [LevelShape(256 * 2**k, 56 // 2**k, 56 // 2**k) for k in range(4)]
    model = build_to_count("spade", shapes, resolve_settings("spade"), (224, 224))
    sizes = {name: math.prod(buffer.shape[1:]) for name, buffer in model.named_buffers()}
    assert sizes.pop("vectors") == 2048
    assert sum(sizes.values()) == 1_404_928


def test_the_search_takes_bounded_memory(monkeypatch):
    train, test = draw(8), draw(2, seed=1)
    model = fit(build(), train)
    expected = model.score(test).maps
    monkeypatch.setattr(spade, "_LARGEST_BLOCK", 100 * 256)
    with LargestTensor() as mode:
        found = model.score(test).maps
    assert mode.largest == 100 * 256  # two images and five similar ones each have 655,360 pairs of positions
    torch.testing.assert_close(found, expected)


def test_one_level_alone_is_refused():
    with pytest.raises(NfbenchError, match="its backbone has one level; give it at least two 'levels'"):
        build(SHAPES[:1])


def test_spade_without_training_images():
    with pytest.raises(NfbenchError, match="SPADE has no training images"):
        build().score(draw(1))
