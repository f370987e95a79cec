"""``frozen: false``: the cache holds the image, and the method gets the network with the weights of the recipe."""

import pytest
import torch

from nfbench.backbones._weights import state_hash
from nfbench.blocks.method import Method
from nfbench.blocks.network import check_backbone, repeatable
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.features.building import build_on
from nfbench.features.forward import extract_batch, load_extractor, load_network, load_recipe

TUNED = BackboneConfig(name="resnet18.tv_in1k", input_size=64, levels=(3, 4), frozen=False, weights="random")


class Reads(Method):
    title = "Reads"
    takes_levels, takes_image = False, True

    build = score = parameter_groups = None


class Trains(Reads):
    title = "Trains"
    takes_network = "yes"


class TrainsPerhaps(Reads):
    title = "TrainsPerhaps"
    takes_network = "optional"


def test_features_are_the_image_alone():
    recipe, extractor = load_recipe(TUNED)
    assert (TUNED.tag, list(recipe.arrays)) == ("resnet18.tv_in1k@64-l34-tuned-random", ["image"])
    images = torch.full((2, 3, 64, 64), 255, dtype=torch.uint8)
    (image,) = extract_batch(extractor, images, recipe, torch.device("cpu"), 2)
    white = torch.tensor([(1 - mean) / std for mean, std in zip(recipe.mean, recipe.std, strict=True)])
    torch.testing.assert_close(image.amax((0, 2, 3)), white)
    assert not list(load_extractor(recipe).parameters())  # what scores images needs no weights


def test_the_network_starts_from_the_weights_of_the_recipe():
    recipe, _ = load_recipe(TUNED)
    network = load_network(recipe)
    assert state_hash(network) == recipe.weights_sha256
    assert all(parameter.requires_grad for parameter in network.parameters())
    shapes = [tuple(level.shape[1:]) for level in network(torch.zeros(1, 3, 64, 64))]
    assert shapes == list(TUNED.network_shapes.values()) == [(256, 4, 4), (512, 2, 2)]
    with pytest.raises(NfbenchError, match="have changed"):
        load_network(recipe.model_copy(update={"weights_sha256": "0"}))


@pytest.mark.parametrize(
    ("method", "keys", "message"),
    [
        (Reads, {"name": "resnet18.tv_in1k", "frozen": False}, "does not train the backbone; remove 'frozen: false'"),
        (Reads, {"name": "resnet18.tv_in1k"}, "give it the backbone 'image'$"),
        (Trains, {"name": "resnet18.tv_in1k"}, "trains the backbone; give it a backbone with 'frozen: false'"),
        (Trains, {"name": "image"}, "trains the backbone;"),
        (TrainsPerhaps, {"name": "resnet18.tv_in1k"}, "the backbone 'image', or set 'frozen: false'"),
    ],
)
def test_a_backbone_of_the_wrong_kind_is_refused(method, keys, message):
    with pytest.raises(NfbenchError, match=message):
        check_backbone(method, BackboneConfig(**keys))


@pytest.mark.parametrize("keys", [{"name": "image"}, {"name": "resnet18.tv_in1k", "frozen": False}])
def test_a_network_can_be_optional(keys):
    check_backbone(TrainsPerhaps, BackboneConfig(**keys))


@pytest.mark.parametrize("key", [{"pooled": True}, {"rotations": 2}])
def test_keys_of_cached_levels_are_refused(key):
    backbone = TUNED.model_copy(update=key)
    with pytest.raises(NfbenchError, match=f"'{next(iter(key))}' and 'frozen: false' cannot be combined"):
        build_on(backbone, "fastflow", None, 0)


def test_there_is_nothing_to_train_in_the_backbone_image():
    with pytest.raises(NfbenchError, match="remove 'frozen'"):
        _ = BackboneConfig(name="image", frozen=False).level_shapes


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize(
    "keys", [{"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2}, {"kernel_size": 3}]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_a_pool_that_can_be_repeated_has_the_same_values_and_gradients(side, keys, ceil_mode):
    pool = torch.nn.MaxPool2d(**keys, ceil_mode=ceil_mode)
    (other,) = repeatable(torch.nn.Sequential(torch.nn.MaxPool2d(**keys, ceil_mode=ceil_mode)))
    x = torch.randn(2, 3, side, side + 1, requires_grad=True)
    assert torch.equal(other(x), pool(x))
    weights = torch.randn(pool(x).shape)
    expected, found = (torch.autograd.grad((part(x) * weights).sum(), x)[0] for part in (pool, other))
    torch.testing.assert_close(found, expected)
