"""Validation images: no training of any method reads them, and other rows do not change."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nfbench.anomalies._base import make_generator
from nfbench.blocks.features import Features
from nfbench.blocks.method import PACKAGE, resolve_settings
from nfbench.blocks.settings import TrainedSettings, epochs_of
from nfbench.config import AnomaliesConfig
from nfbench.core.registry import plugin, plugin_names
from nfbench.datasets._manifest import build_manifest, view_entries
from nfbench.datasets.folder import DATASET
from nfbench.features.forward import load_recipe
from nfbench.features.online import pseudo_anomalies
from nfbench.plan.cells import Cell
from nfbench.stages.train import _describe_classes
from nfbench.training import assemble as assembling
from nfbench.training.assemble import Images, assemble
from nfbench.training.crossfit import cross_fit
from nfbench.training.fit import fit
from tests.conftest import make_image_folder
from tests.tiny_models import ALWAYS_ANOMALIES, NO_ANOMALIES, build_tiny, stand_in_of

CPU, N = torch.device("cpu"), 10


class Cache:
    """Stands for cached features of ``N`` training images, and of validation images that are no numbers."""

    def __init__(self, method, number, n_validation):
        self.shapes, self.path, rng = method.shapes, f"class{number}", np.random.default_rng(number)
        views = (4,) if method.views else ()
        parts = [rng.normal(size=(N, *views, *shape)) for shape in method.shapes]
        parts += [rng.normal(size=(N, 3, *method.map_size))] if method.takes_image else []
        nothing = [np.full((n_validation, *part.shape[1:]), np.nan) for part in parts]
        parts = [np.concatenate(pair).astype(np.float16) for pair in zip(parts, nothing, strict=True)]
        image = parts.pop() if method.takes_image else None
        self.features = Features(parts, image)
        backbone = stand_in_of(method)
        recipe = load_recipe(backbone)[0] if method.given_network else None
        self.meta = SimpleNamespace(backbone=backbone, recipe=recipe, key=self.path)

    def __len__(self):
        return len(self.features)

    def part(self, first, last):
        return self.features[first:last]

    def require_same_source(self, meta, path):
        """All of these are of one source."""


def settings_of(name, **overrides):
    own = resolve_settings(name)
    tiny = {**plugin(PACKAGE, name).METHOD.tiny.settings, **NO_ANOMALIES.get(name, {})}
    trained = {"epochs": 1, "batch_size": 4} if epochs_of(own) else {}
    trained |= {"online_rotation": 0} if isinstance(own, TrainedSettings) else {}
    return resolve_settings(name, overrides={**tiny, **trained, "val_fraction": 0.2, **overrides})


def images_of(name, settings, n_validation):
    """Two classes."""
    method = build_tiny(name, settings, n_classes=2)
    splits = ["train"] * N + ["validation"] * n_validation
    return [
        Images([SimpleNamespace(split=split, sha256=str(row)) for row, split in enumerate(splits)], cache)
        for cache in (Cache(method, number, n_validation) for number in range(2))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in plugin_names(PACKAGE) if name not in ALWAYS_ANOMALIES])
def test_the_same_model_is_trained_without_them(name, tmp_path):
    settings, cell = settings_of(name), Cell("unified", "own", "all", name, "net", 0)
    found = []
    for number in (0, 3):
        images = images_of(name, settings, number)
        found.append(fit(cell, name, settings, images, CPU, tmp_path / str(number), "origin"))
    alone, beside = found
    assert len(beside.data.train) + len(beside.data.val) == 2 * N
    assert alone.data.val.tolist() == beside.data.val.tolist()
    for key, value in alone.model.state_dict().items():
        assert torch.equal(beside.model.state_dict()[key], value), key


def test_nothing_is_cross_fitted_where_all_classes_have_them():
    settings = settings_of("padim", val_fraction=0, folds=3)
    cell = Cell("unified", "own", "all", "padim", "net", 0)
    alone, beside = (images_of("padim", settings, number) for number in (0, 3))
    expected = cross_fit(cell, "padim", settings, alone, CPU)
    assert cross_fit(cell, "padim", settings, beside, CPU) == []
    mixed = cross_fit(cell, "padim", settings, [beside[0], alone[1]], CPU)
    assert [len(normal.images) for normal in mixed] == [N, N]
    for one, other in zip(mixed, expected, strict=True):
        np.testing.assert_array_equal(one.tail.values, other.tail.values)


@pytest.fixture
def classes(tmp_path):
    """Manifests of two categories with validation images."""
    found = []
    for category in ("part", "whole"):
        folder = make_image_folder(tmp_path / "own", category)
        (folder / category / "validation").mkdir()
        (folder / category / "train/good/005.jpeg").rename(folder / category / "train/good/5.jpeg")
        for name in ("000.png", "001.jpg"):
            target = folder / category / "validation/good" / name
            target.parent.mkdir(exist_ok=True)
            (folder / category / "train/good" / name).rename(target)
        found.append(build_manifest(DATASET.samples(folder, category)))
    return found


def test_rotated_images_are_those_of_the_rows_of_features(classes, monkeypatch):
    made = []
    monkeypatch.setattr(assembling, "OnlineFeatures", lambda draw, count, *_: made.append((draw, count)))
    method = SimpleNamespace(settings=settings_of("cflow", online_rotation=5.0), views=0)
    caches = [SimpleNamespace(meta=SimpleNamespace(input_size=32, recipe=None)) for _ in classes]
    assembling._rotated_source(method, [Images(e, c) for e, c in zip(classes, caches, strict=True)], CPU)
    ((draw, count),) = made
    shown = [entry.image for entries in classes for entry in view_entries(entries, "train")[:4]]
    assert [entry.image for entry in draw.pictures] == shown
    assert count == len(shown) == 8


def test_pseudo_anomalies_are_made_of_training_images_alone(classes):
    made = [make_generator(AnomaliesConfig(generator="blend"), entries, 0, 32) for entries in classes]
    for (generator, used), entries in zip(made, classes, strict=True):
        assert [entry.split for entry in used] == ["train"] * 4
        assert len(generator) == 4
        assert sum(entry.split == "validation" for entry in entries) == 2
    draw = pseudo_anomalies([generator for generator, _ in made])
    second = made[1][0](0, 7).image
    assert np.array_equal(draw(4, 7).image.movedim(0, -1).numpy(), second)


def test_rows_of_a_source_are_those_of_features(classes):
    """Each class's own rows follow one another, without those of validation between them."""
    settings = settings_of("cflow", val_fraction=0)
    images = images_of("cflow", settings, 3)
    method = build_tiny("cflow", settings, n_classes=2)
    data = assemble(method, images, 0, CPU)
    read = torch.cat([batch.levels[0] for batch in data.ordered(torch.arange(2 * N))])
    expected = np.concatenate([one.features.features.levels[0][:N] for one in images])
    assert np.array_equal(read.numpy(), expected.astype(np.float32))


def test_held_out_rows_of_a_class_count_its_training_images():
    settings = settings_of("cflow")
    images = images_of("cflow", settings, 3)
    data = SimpleNamespace(val=torch.tensor([1, 9, 10, 14]))
    spec = SimpleNamespace(classes=[SimpleNamespace(name=name) for name in ("part", "whole")])
    found = _describe_classes(spec, images, data)
    assert {name: one.held_out for name, one in found.items()} == {"part": [1, 9], "whole": [0, 4]}
    assert [one.n_validation for one in found.values()] == [3, 3]
