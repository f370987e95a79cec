"""Trainings on tiles: all tiles of an image are trained on, held out, or in one fold."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nfbench.blocks.features import Features
from nfbench.blocks.method import Scores, resolve_settings
from nfbench.blocks.tiling import Tiling
from nfbench.config import AnomaliesConfig
from nfbench.config.tiles import TilesConfig, Window
from nfbench.core.errors import NfbenchError
from nfbench.features.tiling import Tile
from nfbench.plan.cells import Cell
from nfbench.training import assemble as assembling
from nfbench.training import crossfit
from nfbench.training.assemble import Images, assemble
from nfbench.training.crossfit import cross_fit
from nfbench.training.data import TrainingData, split_rows

CPU, CELL = torch.device("cpu"), Cell("one-class", "own", "part", "some", "net", 0)
TILES = TilesConfig(size=32, overlap=8)
SIZES = [(70, 32), (32, 32), (64, 64), (20, 30), (33, 33), (32, 80), (64, 32)]
COUNTS = [3, 1, 9, 1, 4, 3, 3]
SHAPE = (1, 2, 2)


def numbered(sizes=SIZES, first=0):
    """Features whose values are the number of the image."""
    tiling = Tiling.of(TILES, sizes)
    numbers = first + np.repeat(np.arange(len(sizes)), tiling.counts)
    return Features([np.broadcast_to(numbers[:, None, None, None], (len(numbers), *SHAPE)).astype(np.float16)],
                    tiling=tiling)  # fmt: skip


def images_in(batches):
    return Counter(number for batch in batches for number in batch.levels[0][:, 0, 0, 0].int().tolist())


def test_counts():
    assert numbered().tiling.counts == COUNTS


@given(st.integers(0, 1000), st.sampled_from([0, 0.2, 0.5]), st.lists(st.sampled_from(SIZES), min_size=2, max_size=12))
def test_no_tile_of_a_held_out_image_is_trained_on(seed, val_fraction, sizes):
    features = numbered(sizes)
    data = TrainingData(features, val_fraction, seed, CPU)
    counts = features.tiling.counts
    train, held_out = ({number: counts[number] for number in images.tolist()} for images in (data.train, data.val))
    assert [part.tolist() for part in split_rows(len(sizes), val_fraction, seed)] == [list(train), list(held_out)]
    assert not train.keys() & held_out.keys()
    assert train.keys() | held_out.keys() == set(range(len(sizes)))
    for epoch in (1, 2):
        assert images_in(batch.features for batch in data.batches(epoch, 4, drop_last=False)) == train
    assert images_in(data.passes()) == images_in(data.passes.shuffled(0, 3)) == train
    assert images_in(data.ordered(data.rows(data.val))) == held_out
    assert data.n_batches(4, drop_last=False) == -(-sum(train.values()) // 4)


class Cache:
    """Stands for a cache of numbered images."""

    path = "cache"

    def __init__(self, features):
        self.features = features
        self.meta = SimpleNamespace(backbone=None, recipe=None, input_size=32)

    def __len__(self):
        return self.features.n_images

    def part(self, first, last):
        return self.features.select(range(first, last))

    def require_same_source(self, meta, path):
        """All of these are of one source."""


def images_of(sizes=SIZES, first=0):
    entries = [SimpleNamespace(split="train", sha256=str(first + number)) for number in range(len(sizes))]
    return Images(entries, Cache(numbered(sizes, first)))


class Remembers:
    """Scores of an image are its number, and an error if the model was fitted to it."""

    title, image_rule, transductive, gradient_maps, takes_class = "Remembers", "max", False, None, False
    settings = SimpleNamespace(val_fraction=0)

    def __init__(self):
        self.fitted = Counter()

    def to(self, device):
        return self

    train = eval = lambda self: self

    def prepare(self, passes):
        self.fitted = images_in(passes())

    def calibrate(self, passes):
        assert images_in(passes()) == self.fitted

    def score(self, features):
        numbers = features.levels[0][:, 0, 0, 0]
        assert not self.fitted.keys() & set(numbers.int().tolist())
        return Scores(features.levels[0][:, 0], numbers)


@pytest.mark.parametrize("folds", [2, 3, 50])
@pytest.mark.parametrize("n_classes", [1, 2])
def test_folds_are_of_images(folds, n_classes, monkeypatch):
    """Each image is scored once, by a model that saw none of its tiles, on a map of its class's size."""
    monkeypatch.setattr(crossfit, "build_on", lambda *_: Remembers())
    monkeypatch.setattr(assembling, "_check", lambda *_: None)
    images = [images_of(), images_of([(32, 100)] * 5, len(SIZES))][:n_classes]
    found = cross_fit(CELL, "padim", resolve_settings("padim", overrides={"folds": folds}), images, CPU)
    assert [scores.rows.tolist() for scores in found] == [[*range(7)], [*range(5)]][:n_classes]
    assert found[0].images.tolist() == found[0].largest.tolist() == [*range(7)]
    assert found[0].pixels.number == 7 * 4 * 5  # 70 x 80 pixels at two pixels per 32
    if n_classes == 2:
        assert found[1].images.tolist() == [*range(7, 12)]
        assert found[1].pixels.number == 5 * 2 * 6


def test_one_training_of_several_categories(monkeypatch):
    monkeypatch.setattr(assembling, "_check", lambda *_: None)
    method = SimpleNamespace(settings=SimpleNamespace(val_fraction=0.4), takes_class=False)
    data = assemble(method, [images_of(), images_of([(64, 64), (32, 32), (40, 32)], len(SIZES))], 3, CPU)
    counts = [*COUNTS, 9, 1, 2]
    assert (len(data.train), len(data.val)) == (6, 4)
    assert images_in(data.passes()) == {number: counts[number] for number in data.train.tolist()}
    assert images_in(data.ordered(data.rows(data.val))) == {number: counts[number] for number in data.val.tolist()}


def test_rotated_tiles_are_those_of_the_rows_of_features(monkeypatch):
    made = []
    monkeypatch.setattr(assembling, "OnlineFeatures", lambda draw, count, *_: made.append((draw, count)))
    method = SimpleNamespace(settings=resolve_settings("cflow", overrides={"online_rotation": 5.0}), views=0)
    images = [images_of(), images_of([(64, 64), (32, 32)], len(SIZES))]
    tiling = assembling._features(SimpleNamespace(takes_class=False), images).tiling
    assembling._rotated_source(method, images, CPU, tiling)
    ((draw, count),) = made
    numbers = Counter(int(tile.picture.sha256) for tile in draw.pictures)
    assert list(numbers.values()) == [*COUNTS, 9, 1]
    assert list(numbers) == [*range(9)]
    assert count == sum(numbers.values()) == tiling.n_rows
    assert draw.pictures[:3] == [Tile(draw.pictures[0].picture, Window(top, 0, 32, 32)) for top in (0, 24, 38)]


def test_anomalies_to_learn_from_are_refused():
    with pytest.raises(NfbenchError, match="'tiles' of a backbone and 'anomalies' of a variant exclude each other"):
        Images([], Cache(numbered()), AnomaliesConfig(real=2))
