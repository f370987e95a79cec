"""MKD: the described sizes; a student equal to its teacher has no distance; maps are gradients of the loss."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from nfbench.backbones._base import find_backbone
from nfbench.backbones._weights import load_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest
from nfbench.features.forward import normalize, read_images
from nfbench.scoring.gradients import GradientMaps

CPU = torch.device("cpu")
VGG = find_backbone("vgg16_unit")
SHAPES = [LevelShape(8, 16, 16), LevelShape(12, 8, 8), LevelShape(16, 4, 4)]


def build(shapes=SHAPES, side=32, **overrides):
    return build_method("mkd", shapes, resolve_settings("mkd", overrides=overrides), (side, side), 0).eval()


@pytest.fixture(scope="module")
def teacher():
    return load_backbone(VGG, VGG.levels, "random")


def shapes_at(side):
    return [LevelShape(*shape) for shape in VGG.shapes(side)]


def features_of(shapes=SHAPES, side=32, count=3):
    generator = torch.Generator().manual_seed(1)
    levels = [torch.rand(count, *shape, generator=generator) for shape in shapes]
    return Features(levels, torch.rand(count, 3, side, side, generator=generator))


@pytest.mark.parametrize(("hidden", "parameters"), [(16, 343_984), (None, 14_715_968)])
def test_the_students_have_the_described_numbers_of_parameters(hidden, parameters):
    settings = resolve_settings("mkd", overrides={"hidden_channels": hidden})
    method = build_to_count("mkd", shapes_at(128), settings, (128, 128))
    assert count_parameters(method)["total"] == parameters
    found = method.student(torch.empty(2, 3, 128, 128, device="meta"))
    assert [tuple(x.shape) for x in found] == [(2, 128, 32, 32), (2, 256, 16, 16), (2, 512, 8, 8), (2, 512, 4, 4)]


@torch.no_grad()
def test_a_student_equal_to_its_teacher_has_no_distance(teacher):
    """Batch normalization that has seen nothing leaves values as they are, up to its eps."""
    method = build(shapes_at(32), hidden_channels=None)
    image = torch.rand(2, 3, 32, 32)
    before = method.score(Features(teacher(image), image)).images
    own = [module for module in method.student.modules() if isinstance(module, torch.nn.Conv2d)]
    others = [module for module in teacher.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(own) == len(others) == 13
    for one, other in zip(own, others, strict=True):
        one.weight.copy_(other.weight)
        assert not other.bias.any()
    features = Features(teacher(image), image)
    assert (method.score(features).images < 1e-6).all()
    assert (before > 0.1).all()


def test_distances_are_those_of_whole_layers_and_the_weight_scales_the_squared_ones_alone():
    features = features_of()
    by_weight = {}
    for weight in (0.0, 0.5, 2.0):
        method = build(mse_weight=weight)
        by_weight[weight] = method.loss(features), method.score(features).images
    cosines, squares = [], []
    for level, learned in zip(features.levels, method.student(features.image), strict=True):
        teacher, student = level.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)).flatten(1), learned.flatten(1)
        cosines.append(1 - (teacher * student).sum(1) / teacher.norm(dim=1) / student.norm(dim=1))
        squares.append((teacher - student).square().mean(1))
    cosines, squares = torch.stack(cosines), torch.stack(squares)
    for weight, (loss, scores) in by_weight.items():
        distances = cosines + weight * squares
        torch.testing.assert_close(loss, distances.sum(0).mean())
        torch.testing.assert_close(scores, distances[1:].sum(0))


def test_maps_are_blurred_absolute_gradients_of_the_loss_through_teacher_and_student(image_folder, teacher):
    entries = build_manifest(find_dataset("folder").samples(image_folder, "part"))[:2]
    backbone = BackboneConfig(name="vgg16_unit", input_size=32, image=True, weights="random")
    recipe = SimpleNamespace(backbone=backbone, mean=VGG.mean, std=VGG.std)
    method = build(shapes_at(32))
    image = normalize(read_images(entries[1:2], 32), recipe, CPU).requires_grad_()
    assert 0 <= image.min() < image.max() <= 1
    (gradient,) = torch.autograd.grad(method.loss(Features(teacher(image), image)), image)
    expected = ndimage.gaussian_filter(gradient[0].abs().numpy(), (0, 4, 4)).mean(0)
    found = GradientMaps(method, entries, recipe, CPU, teacher)([1])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize("shapes", [SHAPES[1:], SHAPES[:1], [SHAPES[0], SHAPES[2]]])
def test_levels_of_another_kind_of_network_are_refused(shapes):
    with pytest.raises(
        NfbenchError,
        match=r"'mkd' needs at least two consecutive levels at 1/2, 1/4, .* .*'vgg16_unit'",
    ):
        build(shapes)
