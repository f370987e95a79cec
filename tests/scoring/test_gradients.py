"""Gradient maps equal autograd's, are rotated back, and require the weights behind the features."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest
from nfbench.features.extract import extract_features
from nfbench.features.forward import load_extractor, normalize, read_images
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.maps import score_images

CPU = torch.device("cpu")
SIZE = 64


@pytest.fixture
def entries(image_folder):
    return [e for e in build_manifest(find_dataset("folder").samples(image_folder, "part")) if e.split == "train"]


@pytest.fixture
def meta(entries, tmp_path):
    backbone = BackboneConfig(
        name="resnet18.tv_in1k", input_size=SIZE, levels=(2, 3), pooled=True, rotations=2, weights="random"
    )
    return extract_features(entries, backbone, tmp_path / "meta.json", view="train", device=CPU)


def differnet(meta, **overrides):
    settings = resolve_settings("differnet", overrides={"hidden_channels": 16, "flow_steps": 2, **overrides})
    shapes = [LevelShape(*shape) for shape in meta.shapes]
    return build_method("differnet", shapes, settings, (SIZE, SIZE), 0).eval()


def test_one_unblurred_view_is_the_gradient_itself(entries, meta):
    method = differnet(meta, localization_views=1, localization_sigma=0)
    maps = GradientMaps(method, entries, meta.recipe, CPU)
    x = normalize(read_images(entries[2:3], SIZE), meta.recipe, CPU).requires_grad_()
    method.log_likelihood(Features(load_extractor(meta.recipe)(x))).sum().backward()
    expected = x.grad[0].abs().mean(0)
    assert expected.max() > 0
    torch.testing.assert_close(maps([2])[0], expected)


def test_gradients_are_rotated_back_and_blurred_as_scipy_does_it(entries, meta):
    method = differnet(meta, localization_views=3)
    rotated = normalize(read_images(entries[2:3], SIZE, [[0, 120, 240]])[0], meta.recipe, CPU).requires_grad_()
    method.log_likelihood(Features(load_extractor(meta.recipe)(rotated))).sum().backward()
    back = [
        ndimage.rotate(x, -120 * n, axes=(2, 1), reshape=False, order=3) for n, x in enumerate(rotated.grad.numpy())
    ]
    expected = np.abs(ndimage.gaussian_filter(np.concatenate(back), (0, 3, 3))).mean(0)
    found = GradientMaps(method, entries, meta.recipe, CPU)([2])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_maps_turn_with_the_image(image_folder, entries, meta):
    method = differnet(meta, localization_views=4)
    array = np.array(Image.open(entries[0].image).convert("RGB").resize((SIZE, SIZE)))
    for number, image in enumerate([array, np.rot90(array)]):
        Image.fromarray(image).save(image_folder / "part" / "train" / "good" / f"turned{number}.png")
    turned = build_manifest(find_dataset("folder").samples(image_folder, "part"))
    maps = GradientMaps(method, [entry for entry in turned if "turned" in entry.image], meta.recipe, CPU)([0, 1])
    torch.testing.assert_close(maps[1], maps[0].rot90(), atol=1e-8, rtol=1e-4)
    assert not torch.allclose(maps[1], maps[0], rtol=0.1)


def test_they_are_the_maps_of_scored_images(entries, meta):
    method = differnet(meta, localization_views=2)
    levels = [np.random.default_rng(0).normal(size=(6, 2, *shape)).astype(np.float16) for shape in meta.shapes]
    features = Features(levels)
    maps = GradientMaps(method, entries, meta.recipe, CPU)
    scored = score_images(method, features, CPU, [4, 1], maps)
    np.testing.assert_array_equal(scored.maps, maps([4, 1]).numpy())
    assert scored.images["paper"].shape == (2,)
    with pytest.raises(ValueError, match="'localize' is missing"):
        score_images(method, features, CPU)


def test_other_weights_are_refused(entries, meta):
    changed = meta.model_copy(update={"recipe": meta.recipe.model_copy(update={"weights_sha256": "0"})})
    with pytest.raises(NfbenchError, match=r"weights of backbone 'resnet18.tv_in1k' \(random\) have changed"):
        GradientMaps(differnet(meta), entries, changed.recipe, CPU)
