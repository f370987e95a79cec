"""Passes on a device other than a CPU, by a stand-in: a stream of batches that fit its memory, and the same values."""

import threading

import numpy as np
import pytest
import torch

from nfbench.anomalies._base import make_generator
from nfbench.blocks.features import Features
from nfbench.config import AnomaliesConfig, BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest, write_manifest
from nfbench.features import batches, extract, extractor, forward
from nfbench.features.batches import read_batch, read_batches
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import Synthesis, extract_features
from nfbench.features.extractor import Extractor
from nfbench.features.online import OnlineFeatures, RandomRotations, pseudo_anomalies
from nfbench.features.stacked import StackedArrays

CPU = torch.device("cpu")
TOLERANCE = {"rtol": 2e-3, "atol": 2e-3}
"""Of stored features for any batch size: about one step of fp16, where kernels of other sizes round otherwise."""


@pytest.fixture
def entries(image_folder):
    return [e for e in build_manifest(find_dataset("folder").samples(image_folder, "part")) if e.split == "train"]


@pytest.fixture
def passes(monkeypatch):
    """Record the number of images in each pass of the backbone, and the thread."""
    seen = []
    load = forward.load_backbone

    def counting(*arguments, **keys):
        model = load(*arguments, **keys)
        model.register_forward_pre_hook(lambda _, inputs: seen.append((len(inputs[0]), threading.get_ident())))
        return model

    monkeypatch.setattr(forward, "load_backbone", counting)
    return seen


class Memory:
    """Memory of the stand-in, counted in images: more of them in a pass than are free are an error."""

    def __init__(self, free):
        self.free, self.believed = free, free

    def checked(self, model, images, *arguments):
        if min(len(images.flatten(0, -4)), arguments[-1]) > self.free:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward.extract_batch(model, images, *arguments)


@pytest.fixture
def device(monkeypatch):
    """Make the CPU pass images as a GPU does; its memory takes any number of them until a test says otherwise."""
    memory = Memory(10**6)

    def peak_of(_, work):
        work()
        return 4  # for four images

    for module in (extractor, extract, batches):
        monkeypatch.setattr(module, "streams", lambda device: True)
    monkeypatch.setattr(extractor, "peak_of", peak_of)
    monkeypatch.setattr(extractor, "free_memory", lambda device: memory.believed / extractor.MEMORY_SHARE)
    monkeypatch.setattr(extractor, "extract_batch", memory.checked)
    return memory


def backbone(**changed):
    return BackboneConfig(**{"name": "resnet18.tv_in1k", "input_size": 64, "weights": "random", **changed})


def cached(entries, path, synthesis=None, **changed):
    extract_features(entries, backbone(**changed), path / "meta.json", view="train", device=CPU, synthesis=synthesis)
    return FeatureCache(path / "meta.json")


def same(one, other):
    for ours, theirs in zip(one.parts(), other.parts(), strict=True):
        np.testing.assert_allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), **TOLERANCE)


@pytest.mark.parametrize("keys", [{}, {"rotations": 3}, {"image": True}, {"pooled": True}], ids=str)
def test_features_are_the_same_for_any_batch_size(entries, device, tmp_path, passes, monkeypatch, keys):
    with monkeypatch.context() as patch:
        for module in (extractor, extract, batches):
            patch.setattr(module, "streams", lambda device: False)
        expected = cached(entries, tmp_path / "cpu", **keys)
    for size in (1, 2, 4, 5, 64):
        device.believed = size
        passes.clear()
        found = cached(entries, tmp_path / str(size), **keys)
        assert found.meta.key == expected.meta.key
        same(found.features, expected.features)
        assert max(count for count, _ in passes[1:]) <= size  # the first one measures what images take
        assert len({thread for _, thread in passes[1:]}) == 1


def test_a_batch_takes_its_share_of_the_memory(entries, device, tmp_path, monkeypatch):
    recipe = cached(entries, tmp_path).meta.recipe
    for believed, expected in ((0, 1), (37, 37), (10**9, extractor.LARGEST_BATCH)):
        device.believed = believed
        assert Extractor(recipe, CPU).at_once == expected
    monkeypatch.setattr(extractor, "LARGEST_BYTES", 2.5 * 2 * (64 * 16**2 + 128 * 8**2 + 256 * 4**2))
    assert Extractor(recipe, CPU).at_once == 2


def test_a_batch_is_halved_until_it_fits(entries, device, tmp_path, passes):
    expected = cached(entries, tmp_path / "roomy")
    passes.clear()
    device.free, device.believed = 3, 64
    found = cached(entries, tmp_path / "tight")
    assert [count for count, _ in passes] == [1] * len(entries)  # measuring with four did not fit
    same(found.features, expected.features)
    network = Extractor(found.meta.recipe, CPU)
    network.at_once = 16
    images = forward.read_images(entries, 64)
    levels = network.begin(lambda rows: (images[list(rows)], None), range(6), InTurn())().levels
    assert network.at_once == 2
    same(Features(levels), expected.features)


class InTurn:
    """A pool that does its work at once."""

    def submit(self, function, *arguments):
        result = function(*arguments)
        return type("Done", (), {"result": lambda self: result})()


def test_an_image_that_does_not_fit_is_one_line(entries, device, tmp_path):
    device.free = 0
    with pytest.raises(
        NfbenchError, match=r"'resnet18.tv_in1k' at 64 pixels: one image is too much .*2.00 GiB.*'input"
    ) as e:
        cached(entries, tmp_path / "c")
    assert "\n" not in str(e.value)
    assert not list((tmp_path / "c").iterdir())


def test_errors_other_than_of_memory_are_not_tried_again(entries, device, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(extractor, "extract_batch", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        cached(entries, tmp_path)


def test_pseudo_anomalies_are_streamed_with_their_masks(entries, device, tmp_path, monkeypatch):
    generator, used = make_generator(AnomaliesConfig(generator="blend", views=3), entries, 0, 64)
    found = cached(used, tmp_path / "stream", Synthesis("blend", generator, 3, 0))
    for module in (extractor, extract, batches):
        monkeypatch.setattr(module, "streams", lambda device: False)
    expected = cached(used, tmp_path / "cpu", Synthesis("blend", generator, 3, 0))
    assert np.array_equal(found.masks, expected.masks)
    same(found.features, expected.features)


@pytest.mark.parametrize("views", [None, 4])
def test_images_drawn_for_a_training_are_passed_by_the_caller(entries, device, tmp_path, monkeypatch, passes, views):
    recipe = cached(entries, tmp_path).meta.recipe
    rotations = RandomRotations(entries, 64, 30.0, views)
    source = OnlineFeatures(rotations, len(entries), recipe, CPU)
    indices, draws = torch.arange(5), torch.arange(5) + 70
    device.believed = 3
    passes.clear()
    features, masks = source.read(indices, draws)
    assert masks is None
    assert {thread for _, thread in passes} == {threading.get_ident()}
    features.levels[0].requires_grad_().sum().backward()  # what is trained on it can differentiate
    monkeypatch.setattr(extractor, "streams", lambda device: False)
    same(features.map(torch.detach), OnlineFeatures(rotations, len(entries), recipe, CPU).read(indices, draws)[0])


def test_masks_of_drawn_anomalies_come_along(entries, device, tmp_path):
    recipe = cached(entries, tmp_path).meta.recipe
    generator, _ = make_generator(AnomaliesConfig(generator="blend", online=True), entries, 0, 64)
    features, masks = OnlineFeatures(pseudo_anomalies([generator]), 6, recipe, CPU).read(
        torch.arange(6), torch.arange(6)
    )
    assert (len(features), masks.shape) == (6, (6, 64, 64))
    for number in range(6):
        assert np.array_equal(masks[number], generator(number, number).mask.astype(np.float32) / 255)


def live(entries, path):
    write_manifest(path / "m.csv", entries)
    extract_features(entries, backbone(), path / "meta.json", view="train", device=CPU, online=path / "m.csv")
    return FeatureCache(path / "meta.json").features


@pytest.mark.parametrize("streamed", [False, True])
def test_all_levels_of_live_features_are_computed_in_one_pass(entries, tmp_path, passes, request, streamed):
    expected = cached(entries, tmp_path / "whole").features
    if streamed:
        request.getfixturevalue("device")
    features = live(entries, tmp_path)
    passes.clear()
    for batch, rows in zip(read_batches(features, torch.arange(6), CPU, 4), ([0, 1, 2, 3], [4, 5]), strict=True):
        same(batch, expected[rows])
    assert sum(count for count, _ in passes) == 6 + 4 * streamed  # four to measure what images take
    passes.clear()
    stacked = Features.join([features, live(entries, tmp_path)], StackedArrays)
    rows = torch.tensor([7, 0, 5, 11])
    same(read_batch(stacked, rows, CPU), expected[(rows % 6).numpy()])


def test_cached_features_are_read_ahead_for_a_device(entries, device, tmp_path, monkeypatch):
    features = cached(entries, tmp_path).features
    threads = []
    pin = batches._pinned
    monkeypatch.setattr(batches, "_pinned", lambda *a: (threads.append(threading.get_ident()), pin(*a))[1])
    found = list(read_batches(features, torch.arange(6), CPU, 4))
    assert [len(batch) for batch in found] == [4, 2]
    assert len(threads) == 2 * len(features.levels)
    assert threading.get_ident() not in threads
    for batch, rows in zip(found, (slice(0, 4), slice(4, 6)), strict=True):
        for ours, theirs in zip(batch.levels, features.levels, strict=True):
            assert np.array_equal(ours.numpy(), theirs[rows].astype(np.float32))
