"""Training data: random views, added anomalies, and combinations that are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.anomalies._base import make_generator
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import build_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.forward import images_hash
from nfbench.training.assemble import Images, assemble
from nfbench.training.data import CachedImages, CachedViews, TrainingData
from tests.tiny_models import stand_in

CPU = torch.device("cpu")
SHAPES = [(4, 4, 4), (6, 2, 2)]
SIDE = 32


def numbered(*outer):
    """Features whose values tell the image, and the view: 10 * image + view."""
    index = np.arange(outer[0]) * 10.0
    if len(outer) == 2:
        index = index[:, None] + np.arange(outer[1])
    levels = [np.broadcast_to(index[..., None, None, None], (*outer, *shape)) for shape in SHAPES]
    return Features([level.astype(np.float16) for level in levels])


def values(batches):
    return sorted(float(x) for batch in batches for x in batch.features.levels[0][:, 0, 0, 0])


def masks_of(*outer):
    masks = np.zeros((*outer, SIDE, SIDE), np.uint8)
    masks[..., :8, :8] = 128
    return masks


def test_each_epoch_draws_one_view_of_every_image():
    data = TrainingData(numbered(12), 0, 0, CPU, CachedViews(numbered(12, 3), masks_of(12, 3), CPU))
    epochs = [values(data.batches(epoch, 5, False)) for epoch in range(1, 31)]
    assert all([value // 10 for value in epoch] == list(range(12)) for epoch in epochs)
    counts = np.bincount([int(value) % 10 for epoch in epochs for value in epoch])
    assert counts.min() > 80  # of 360 draws among three views
    assert epochs[0] != epochs[1]
    assert epochs[0] == values(data.batches(1, 5, False))
    batch = next(data.batches(1, 5, False))
    assert batch.masks.shape == (5, SIDE, SIDE)
    assert float(batch.masks.max()) == pytest.approx(128 / 255)
    assert values([SimpleNamespace(features=x) for x in data.passes()]) == [10.0 * n for n in range(12)]  # clean ones


def test_anomalies_join_as_often_as_asked():
    real = CachedImages(numbered(2).map(lambda level: level + 500), CPU, masks_of(2))
    pseudo = CachedViews(numbered(2, 4).map(lambda level: level + 700), masks_of(2, 4), CPU)
    data = TrainingData(numbered(9), 0.2, 0, CPU, anomalies=[(real, 5), (pseudo, 3)])
    found = values(data.batches(1, 4, False))
    assert found[:7] == [10.0 * n for n in data.train.tolist()]
    assert found[7:17] == [500.0] * 5 + [510.0] * 5
    assert [value // 10 for value in found[17:]] == [70] * 3 + [71] * 3
    assert data.n_batches(4, False) == 6
    assert data.n_batches(4, True) == 5
    for batch in data.batches(1, 4, False):
        if batch.masks is not None:
            anomalous = batch.features.levels[0][:, 0, 0, 0] >= 500
            assert torch.equal(batch.masks.flatten(1).any(1), anomalous)


def test_views_read_from_disk_are_those_in_memory(monkeypatch):
    resident = CachedViews(numbered(5, 3), masks_of(5, 3), CPU)
    monkeypatch.setattr("nfbench.training.data.free_memory", lambda device: 0)
    mapped = CachedViews(numbered(5, 3), masks_of(5, 3), CPU)
    indices, draws = torch.tensor([4, 0, 2]), torch.tensor([7, 2, 3])
    (one, _), (other, _) = (views.read(indices, draws) for views in (resident, mapped))
    assert all(torch.equal(a, b) for a, b in zip(one.levels, other.levels, strict=True))
    assert one.levels[0][:, 0, 0, 0].tolist() == [41, 2, 20]


class Cache(SimpleNamespace):
    """Stands in for a cache of features."""

    def __len__(self):
        return len(self.features)

    def part(self, first, last):
        return self.features.map(lambda level: level[first:last])

    def require_same_source(self, other, path):
        pass


def features(image=False, entries=(), view="train", **meta):
    """A cache of the images of ``entries``."""
    described = {
        "backbone": stand_in(SHAPES, SIDE, image=image),
        "input_size": SIDE,
        "view": view,
        "images_sha256": images_hash(entries),
        **meta,
    }
    return Cache(
        path="meta.json", features=numbered(6), masks=masks_of(6, 3), meta=SimpleNamespace(**described), shapes=SHAPES
    )


@pytest.fixture
def entries(image_folder):
    return build_manifest(DATASET.samples(image_folder, "part"))


def build(name, shapes=SHAPES, **overrides):
    settings = resolve_settings(
        name, overrides={"condition_dim": 8, "coupling_blocks": 1, "val_fraction": 0, **overrides}
    )
    return build_method(name, [LevelShape(*shape) for shape in shapes], settings, (SIDE, SIDE), 0)


def of_test_view(entries, **meta):
    return features(entries=[entry for entry in entries if entry.split == "test"], view="test", **meta)


def images(entries, anomalies=None, **caches):
    config = AnomaliesConfig(**anomalies) if anomalies else None
    return Images(entries, caches.pop("features", features()), config, **caches)


def test_real_anomalies_come_with_their_masks(entries):
    found = images(entries, {"real": 2}, test=of_test_view(entries), seed=1)
    data = assemble(build("bgad"), [found], 0, CPU)
    (source,) = data.source.sources[1:]
    of_test = [entry for entry in entries if entry.split == "test"]
    for number, entry in enumerate(found.real):
        expected = np.array(Image.open(entry.mask).resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 0
        read, masks = source.read(torch.tensor([number]), torch.tensor([0]))
        assert np.array_equal(masks[0].numpy() == 1, expected)
        assert float(read.levels[0][0, 0, 0, 0]) == 10.0 * of_test.index(entry)
    assert len(data.items) == 6 + 2 * 5


def test_a_mask_that_vanishes_is_named(entries):
    small = of_test_view(entries, input_size=2)
    with pytest.raises(NfbenchError, match=r"_mask\.png marks no pixel at 2 x 2"):
        assemble(build("bgad"), [images(entries, {"real": 2}, features=small, test=small)], 0, CPU)


def found(entries, anomalies):
    """With all caches that the anomalies may ask for."""
    if anomalies is None or "generator" not in anomalies:
        return images(entries, anomalies, test=of_test_view(entries))
    normals = [entry for entry in entries if entry.split == "train"]
    return images(entries, anomalies, pseudo=features(entries=normals, view="pseudo-blend-k8"))


@pytest.mark.parametrize(
    ("method", "anomalies", "message"),
    [
        ("bgad", None, "needs anomalies; give its variant 'anomalies'"),
        ("nfad", {"generator": "blend"}, "does not use 'anomalies'"),
        ("cflow", {"real": 1}, "does not use 'anomalies'"),
    ],
)
def test_anomalies_and_methods_that_do_not_go_together(entries, method, anomalies, message):
    with pytest.raises(NfbenchError, match=message):
        assemble(build(method), [found(entries, anomalies)], 0, CPU)


def test_the_image_is_asked_for_and_refused(entries):
    with pytest.raises(NfbenchError, match="does not use 'image: true'"):
        assemble(build("nfad"), [images(entries, features=features(image=True))], 0, CPU)
    sanflow = build("sanflow", mixture=False, variance="fixed")
    with pytest.raises(NfbenchError, match="needs 'image: true'"):
        assemble(sanflow, [images(entries)], 0, CPU)


def test_rotation_and_pseudo_anomalies_exclude_each_other(entries):
    with pytest.raises(NfbenchError, match="cannot be combined"):
        assemble(build("bgad", online_rotation=5), [found(entries, {"generator": "blend"})], 0, CPU)


def test_no_image_is_held_out_of_what_makes_anomalies(entries):
    with pytest.raises(NfbenchError, match=r"set the variant's 'val_fraction: 0' \(now 0\.1\)"):
        assemble(build("bgad", val_fraction=0.1), [found(entries, {"generator": "blend"})], 0, CPU)


RPAG = {"generator": "rpag", "real": 2, "views": 3}


@pytest.mark.parametrize(
    ("view", "seed", "message"),
    [
        ("pseudo-rpag-k3-real2-seed1", 0, "holds the view 'pseudo-rpag-k3-real2-seed1'"),
        ("pseudo-rpag-k3-real2-seed0", 1, "expected the view 'pseudo-rpag-k3-real2-seed1' of this category and seed"),
        (
            None,
            0,
            "'pseudo' is missing: .* cached features of the view 'pseudo-rpag-k3-real2-seed0'",
        ),
    ],
)
def test_pseudo_anomalies_of_another_seed_are_refused(entries, view, seed, message):
    used = make_generator(AnomaliesConfig(**RPAG), entries, seed, SIDE)[1]
    pseudo = view and features(entries=used, view=view)
    with pytest.raises(NfbenchError, match=message):
        images(entries, RPAG, test=of_test_view(entries), pseudo=pseudo, seed=seed)


def test_features_of_other_images_are_refused(entries):
    with pytest.raises(NfbenchError, match="'test_features' is missing"):
        images(entries, {"real": 2})
    with pytest.raises(NfbenchError, match=r"'test_features' .* or other images"):
        images(entries, {"real": 2}, test=of_test_view(entries[:-1]))


@pytest.mark.parametrize(("counts", "val_fraction"), [((1, 7), 0.6), ((2, 2, 2), 0.5), ((1, 1, 9), 0.5)])
def test_no_split_holds_out_all_images_of_a_class(entries, counts, val_fraction):
    """Of many seeds, those that would hold out a whole class are refused; all others leave each class an image."""
    classes = []
    for number, count in enumerate(counts):
        one = features()
        one.features, one.path = numbered(count), f"class{number}/meta.json"
        classes.append(images(entries, features=one))
    refused = 0
    for seed in range(20):
        try:
            data = assemble(build("nfad", val_fraction=val_fraction), classes, seed, CPU)
        except NfbenchError as error:
            refused += 1
            assert f"'val_fraction' is {val_fraction:g} and holds out all" in str(error)  # noqa: PT017
            continue
        bounds = np.cumsum([0, *counts])
        assert (np.histogram(data.train.numpy(), bounds - 0.5)[0] > 0).all()
    assert 0 < refused < 20
