"""Cross-fitting: every normal image is scored by a model that was not fitted to it, nor to a copy of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import PACKAGE, Scores, build_method, resolve_settings
from nfbench.blocks.settings import FittedSettings
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.metrics import fair_threshold
from nfbench.metrics._iou import fair_threshold_of
from nfbench.plan.cells import Cell
from nfbench.training import crossfit
from nfbench.training.assemble import Images
from nfbench.training.crossfit import cross_fit, load_normal, save_normal
from nfbench.training.fit import initialization_of, seed_of
from tests.tiny_models import stand_in

CPU, CELL = torch.device("cpu"), Cell("one-class", "own", "part", "some", "net", 0)
TYPES = {name: plugin(PACKAGE, name).METHOD for name in plugin_names(PACKAGE)}
FITTED = [name for name, method in TYPES.items() if issubclass(method.settings_type, FittedSettings)]
WITH_MAPS = [name for name in FITTED if "smoothing" in TYPES[name].settings_type.model_fields]
SIZE = (32, 32)


class Cache:
    """Stands for the cached features of ``count`` images, each an own draw."""

    def __init__(self, count, shapes, number=0):
        rng, self.shapes, self.path = np.random.default_rng(number), shapes, f"class{number}"
        self.features = Features([rng.normal(number, 1, (count, *shape)).astype(np.float16) for shape in shapes])
        self.meta = SimpleNamespace(backbone=stand_in(shapes, SIZE[0]))

    def __len__(self):
        return len(self.features)

    def part(self, first, last):
        return self.features[first:last]

    def require_same_source(self, meta, path):
        """All of these are of one source."""


def images_of(count, shapes, number=0, files=None):
    entries = [SimpleNamespace(split="train", sha256=file) for file in files or range(count)]
    entries = [SimpleNamespace(split="test", sha256="t"), *entries]
    return Images(entries, Cache(count, shapes, number))


def settings_of(name, **overrides):
    smoothing = {"smoothing": 1} if name in WITH_MAPS else {}
    return resolve_settings(name, overrides={**TYPES[name].tiny.settings, **smoothing, **overrides})


def shapes_of(name):
    return TYPES[name].tiny.shapes


def scores_by_hand(name, settings, images, kept, rows):
    """Scores of some images of all classes by a model that is fitted to others, in one batch each."""
    levels = zip(*(one.features.features.levels for one in images), strict=True)
    features = Features([torch.from_numpy(np.concatenate(level)).float() for level in levels])
    first = initialization_of(seed_of(CELL))
    model = build_method(name, images[0].features.shapes, settings, SIZE, first, len(images))
    model.prepare(lambda: [features[np.flatnonzero(kept)]])
    with torch.inference_mode():
        return model.eval().score(features[np.flatnonzero(rows)])


def maps_by_hand(*arguments):
    return scores_by_hand(*arguments).maps.numpy()


def test_fitted_methods_are_found():
    assert {"padim", "patchcore"} <= set(WITH_MAPS)
    assert "ocsvm" in set(FITTED) - set(WITH_MAPS)


@pytest.mark.parametrize("name", WITH_MAPS)
@pytest.mark.parametrize("folds", [3, 50])
def test_the_tail_is_that_of_folds_fitted_by_hand(name, folds):
    settings, one = settings_of(name, folds=folds), images_of(11, shapes_of(name))
    fold = crossfit._deal(one, folds, seed_of(CELL)).numpy()
    assert sorted(np.bincount(fold)) == ([3, 4, 4] if folds == 3 else [1] * 11)
    maps = np.concatenate([maps_by_hand(name, settings, [one], fold != k, fold == k) for k in sorted(set(fold))])
    (normal,) = cross_fit(CELL, name, settings, [one], CPU)
    assert (normal.tail.n_images, normal.tail.n_pixels) == (11, maps.size)
    assert fair_threshold_of(normal.tail) == pytest.approx(fair_threshold(maps), rel=1e-4)
    everything = np.ones(11, dtype=bool)
    known = maps_by_hand(name, settings, [one], everything, everything)
    assert fair_threshold_of(normal.tail) > 1.2 * fair_threshold(known)
    by_image = np.concatenate([np.flatnonzero(fold == k) for k in sorted(set(fold))])
    assert normal.rows.tolist() == list(range(11))
    np.testing.assert_allclose(normal.largest[by_image], maps.max((1, 2)), rtol=1e-4)
    assert normal.pixels.mean == pytest.approx(maps.mean(), rel=1e-4)
    assert normal.pixels.std == pytest.approx(maps.std(), rel=1e-3)


def test_image_scores_of_a_method_without_maps_are_those_of_folds_fitted_by_hand():
    settings, one = settings_of("ocsvm", folds=3), images_of(11, shapes_of("ocsvm"))
    fold = crossfit._deal(one, 3, seed_of(CELL)).numpy()
    (normal,) = cross_fit(CELL, "ocsvm", settings, [one], CPU)
    for k in range(3):
        expected = scores_by_hand("ocsvm", settings, [one], fold != k, fold == k).images
        np.testing.assert_allclose(normal.images[fold == k], expected, rtol=1e-4)
    assert not normal.has_maps


@pytest.mark.parametrize("name", WITH_MAPS)
def test_folds_of_one_model_of_two_classes_have_images_of_both(name):
    settings = settings_of(name, folds=2)
    images = [images_of(count, shapes_of(name), number) for number, count in enumerate((6, 5))]
    fold = np.concatenate([crossfit._deal(one, 2, seed_of(CELL)).numpy() for one in images])
    number = np.repeat([0, 1], (6, 5))
    for place, normal in enumerate(cross_fit(CELL, name, settings, images, CPU)):
        own = [maps_by_hand(name, settings, images, fold != k, (fold == k) & (number == place)) for k in (0, 1)]
        assert fair_threshold_of(normal.tail) == pytest.approx(fair_threshold(np.concatenate(own)), rel=1e-4)


@pytest.mark.parametrize("name", WITH_MAPS)
def test_an_image_s_copy_does_not_vouch_for_it(name):
    """Two files are equal and unlike all others: the model of their fold must be fitted to neither."""
    settings, files = settings_of(name, folds=4), [0, 1, 2, 3, 4, 5, 6, 0]
    one = images_of(8, shapes_of(name), files=files)
    for level in one.features.features.levels:
        level[[0, 7]] = level[0] + 6
    fold = crossfit._deal(one, 4, seed_of(CELL)).numpy()
    assert fold[0] == fold[7]
    (normal,) = cross_fit(CELL, name, settings, [one], CPU)
    alone = maps_by_hand(name, settings, [one], fold != fold[0], np.arange(8) == 0)
    assert normal.tail.values[0] == pytest.approx(alone.max(), rel=1e-4)
    with_copy = maps_by_hand(name, settings, [one], np.arange(8) > 0, np.arange(8) == 0)
    assert normal.tail.values[0] > 1.5 * with_copy.max()


@pytest.mark.parametrize("name", WITH_MAPS)
def test_equal_seeds_give_equal_scores_on_any_number_of_threads(name):
    def run(cell, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        (normal,) = cross_fit(cell, name, settings_of(name), [images_of(9, shapes_of(name))], CPU)
        torch.set_num_threads(before)
        return np.concatenate([normal.tail.values, normal.images])

    one = run(CELL, 1)
    np.testing.assert_array_equal(one, run(CELL, 2))
    assert not np.array_equal(one, run(Cell(**{**vars(CELL), "seed": 1}), 1))


@pytest.mark.parametrize("overrides", [{"folds": 0}, {"val_fraction": 0.2}])
def test_nothing_is_fitted_where_no_fold_is_asked_for(overrides):
    assert cross_fit(CELL, "padim", settings_of("padim", **overrides), [images_of(9, shapes_of("padim"))], CPU) == []
    assert cross_fit(CELL, "fastflow", resolve_settings("fastflow"), [], CPU) == []


def test_what_cannot_be_cross_fitted_is_refused(monkeypatch):
    def run(name, *files, **overrides):
        one = images_of(len(files), shapes_of(name), files=files)
        return cross_fit(CELL, name, settings_of(name, **overrides), [one], CPU)

    with pytest.raises(
        NfbenchError,
        match=r"class0: 'folds' needs at least 2 different .*, got 1; set 'folds: 0'",
    ):
        run("padim", 3, 3, 3)
    with pytest.raises(NfbenchError, match=r"fold 1 of 5: PaDiM needs 2 or more .*, got 1; 'folds: 0' fits only one"):
        run("padim", 1, 2)
    with pytest.raises(NfbenchError, match="setting 'folds' of method 'padim': one fold leaves no images to fit to"):
        settings_of("padim", folds=1)
    method = TYPES["padim"]
    monkeypatch.setattr(method, "score", lambda *_: Scores(torch.full((1, *SIZE), torch.nan), torch.zeros(1)))
    with pytest.raises(NfbenchError, match="'PaDiM': the score of a held-out normal image is not finite"):
        run("padim", 1, 2, 3)
    monkeypatch.setattr(method, "transductive", True)
    with pytest.raises(NfbenchError, match="'PaDiM' cannot be cross-fitted, since its scores are relative to the test"):
        run("padim", 1, 2, 3)


def test_scores_are_written_and_read(tmp_path):
    name = FITTED[0]
    by_class = cross_fit(
        CELL, name, settings_of(name), [images_of(7, shapes_of(name), number) for number in (0, 1)], CPU
    )
    save_normal(tmp_path / "t", {"mvtec/a": by_class[0], "b": by_class[1]})
    found = load_normal(tmp_path / "t")
    for one, other in zip((found["mvtec/a"], found["b"]), by_class, strict=True):
        assert one.pixels == other.pixels
        for (name, array), same in zip(one.arrays().items(), other.arrays().values(), strict=True):
            np.testing.assert_array_equal(array, same, name)
    save_normal(tmp_path / "none", {})
    assert load_normal(tmp_path / "none") == {}
