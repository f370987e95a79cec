"""Order of scoring: images independently, then as published if that needs the whole test set."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import Entry
from nfbench.metrics import TRANSDUCTIVE, miou
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.evaluate import GroundTruth
from nfbench.scoring.maps import score_normal
from nfbench.scoring.protocol import Views, measure, score_views
from nfbench.search.objective import Judged
from nfbench.search.objective import measure as judge

CPU = torch.device("cpu")
SHAPES = [LevelShape(6, 8, 8), LevelShape(8, 4, 4)]


@pytest.fixture
def truth(tmp_path):
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    path = str(tmp_path / "mask.png")
    return GroundTruth(
        [
            Entry("test", n % 2, "dent", f"{n}.png", path if n % 2 else "", 32, 32, "", file_sha256(path))
            for n in range(8)
        ]
    )


def views():
    rng = np.random.default_rng(0)
    levels = [[rng.normal(size=(n, *shape)).astype(np.float16) for shape in SHAPES] for n in (12, 8)]
    for level in levels[1]:
        level[1::2, :, : level.shape[2] // 4, : level.shape[2] // 4] += 2
    return Views(*map(Features, levels))


def as_tensors(features):
    return features.map(lambda level: torch.from_numpy(level).float())


def build(name):
    settings = resolve_settings(name, overrides={"coupling_blocks": 2} if name == "cflow" else {"flow_steps": 2})
    method = build_method(name, SHAPES, settings, (32, 32), 0).eval()
    method.calibrate(lambda: [as_tensors(views().normal)])
    return method


def measured(method, views, truth, held_out=(), cross_fitted=None):
    return measure(score_views(method, views, CPU, held_out, cross_fitted), truth)


def test_transductive_metrics_are_those_of_the_test_sets_own_maximum(truth):
    method = build("cflow")
    scored = measured(method, views(), truth)
    metrics = scored.evaluation.metrics
    assert {f"pixel_auroc{TRANSDUCTIVE}", f"image_auroc{TRANSDUCTIVE}", f"miou_fair{TRANSDUCTIVE}"} <= metrics.keys()
    assert not [name for name in metrics if TRANSDUCTIVE in name and "nfa" in name]
    test = as_tensors(views().test)
    method.calibrate(lambda: [test])
    with torch.inference_mode():
        maps = method.score(test).maps.float().numpy()
    masks = np.stack(list(truth.masks()))
    positive, negative = maps[masks], maps[~masks]
    auroc = (positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean()
    assert metrics[f"pixel_auroc{TRANSDUCTIVE}"] == pytest.approx(auroc, abs=1e-6)
    assert metrics["pixel_auroc"] != metrics[f"pixel_auroc{TRANSDUCTIVE}"]


def test_maps_that_are_kept_do_not_depend_on_other_test_images(truth):
    both = views()
    whole = measured(build("cflow"), both, truth)
    half = GroundTruth(truth.entries[:4])
    part = measured(build("cflow"), both._replace(test=both.test[:4]), half)
    np.testing.assert_allclose(part.test.maps, whole.test.maps[:4], rtol=1e-6)


def test_maps_of_training_images_are_let_go_of(truth):
    """They may be most of the memory of an evaluation, which would hold them twice while it scores the next model."""
    scored = measured(build("fastflow"), views(), truth)
    assert [energies.shape for energies in scored.normal_energies] == [(12, 8, 8), (12, 4, 4)]


def test_thresholds_are_those_of_held_out_images(truth):
    """Published scores too, which are relative to the test set."""
    method, held_out = build("cflow"), [1, 4, 5]
    scored = measured(method, views(), truth, held_out)
    assert (scored.source, scored.normal.rows.tolist()) == ("held out", held_out)
    normal, test = as_tensors(views().normal), as_tensors(views().test)
    fair = {}
    for suffix, of in (("", normal), (TRANSDUCTIVE, test)):
        method.calibrate(lambda of=of: [of])
        with torch.inference_mode():
            maps, found = (method.score(features).maps.numpy() for features in (normal, test))
        fair[suffix] = np.sort(maps[held_out], axis=None)[-4]
        value = miou(found, list(truth.masks()), fair[suffix])
        assert scored.evaluation.metrics[f"miou_fair{suffix}"] == pytest.approx(value, abs=1e-6)
    assert scored.evaluation.thresholds["fair"] == pytest.approx(fair[""], rel=1e-5)
    scored = measured(build("cflow"), views(), truth)
    assert (scored.source, len(scored.normal.images)) == ("training", 12)


def test_cross_fitted_images_decide_alone(truth):
    normal = NormalScores.of_maps(np.full((2, 32, 32), 7, dtype=np.float32))
    scored = measured(build("cflow"), views(), truth, cross_fitted=normal)
    assert scored.evaluation.thresholds["fair"] == scored.contour == 7
    assert (scored.source, scored.normal) == ("cross-fitted", normal)


def test_other_methods_have_no_such_metrics(truth):
    metrics = measured(build("fastflow"), views(), truth).evaluation.metrics
    assert not [name for name in metrics if name.endswith(TRANSDUCTIVE)]


def tail_of(method, features):
    return score_normal(method, features, CPU).scores.tail


def with_validation(found):
    """The last 4 of the normal images are of validation."""
    return Views(found.normal[:8], found.test, validation=found.normal[8:])


@pytest.mark.parametrize("name", ["fastflow", "cflow"])
def test_thresholds_are_taken_from_validation_images_first(truth, name):
    method, found = build(name), with_validation(views())
    scored = score_views(
        method, found, CPU, held_out=[0, 1], cross_fitted=NormalScores.of_maps(np.ones((3, 3, 1), np.float32))
    )
    method.calibrate(lambda: [as_tensors(views().normal)])
    expected = tail_of(method, found.validation)
    np.testing.assert_array_equal(scored.normal.tail.values, expected.values)
    assert (scored.source, scored.normal.rows.tolist()) == ("validation", [8, 9, 10, 11])
    assert {len(energies) for energies in scored.normal_energies} <= {8}
    assert measure(scored, truth).source == "validation"


class Cache(Features):
    """Stands for a cache of these features."""

    meta = None
    features = property(lambda self: self)

    def part(self, first, last):
        return self[first:last]


def test_a_trial_of_a_search_takes_its_threshold_from_them_too(truth):
    found, method = with_validation(views()), build("fastflow")
    entries = [SimpleNamespace(split=split) for split in ["train"] * 8 + ["validation"] * 4]
    caches = (Cache(one.levels) for one in (found.test, views().normal))
    judged = Judged(next(caches), truth, list(range(8)), next(caches), entries)
    value = judge("miou_fair", method, judged, CPU, [0], lambda: NormalScores.of_maps(np.ones((3, 3, 1), np.float32)))
    assert value == measured(build("fastflow"), found, truth).evaluation.metrics["miou_fair"]


def test_training_and_test_images_score_as_without_validation(truth):
    method = build("fastflow")
    alone = score_views(method, Views(views().normal[:8], views().test), CPU)
    beside = score_views(method, with_validation(views()), CPU)
    np.testing.assert_array_equal(beside.test.maps, alone.test.maps)
    for one, other in zip(beside.normal_energies, alone.normal_energies, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["fastflow", "cflow"])
def test_without_test_images_there_are_thresholds_and_all_metrics_are_undefined(name, tmp_path):
    method, found = build(name), views()
    scored = score_views(method, found._replace(test=found.test[:0]), CPU)
    full = score_views(build(name), found, CPU)
    np.testing.assert_array_equal(scored.normal.tail.values, full.normal.tail.values)
    assert scored.test.maps.shape == (0, *full.test.maps.shape[1:])
    assert scored.test.images.keys() == full.test.images.keys()
    assert [e.shape[1:] for e in scored.test.energies] == [e.shape[1:] for e in full.test.energies]
    measured_none = measure(scored, GroundTruth([]), folder=tmp_path)
    assert set(measured_none.evaluation.metrics.values()) == {None}
    assert measured_none.evaluation.metrics.keys() >= {"image_auroc", "pixel_aupro", "false_alarms_fair"}
    assert measured_none.evaluation.thresholds.keys() == {"fair"}
    assert not measured_none.evaluation.curves


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_kind_of_test_images_what_is_defined_is_measured(truth, label):
    rows = [row for row in range(8) if truth.labels[row] == label]
    method, found = build("fastflow"), views()
    one_kind = GroundTruth([truth.entries[row] for row in rows])
    both = measured(method, found, truth).evaluation.metrics
    alone = measured(method, found._replace(test=found.test[rows]), one_kind).evaluation.metrics
    assert alone.keys() == both.keys()
    defined = {name for name, value in alone.items() if value is not None}
    of_normal = {name for name in both if "alarm" in name and "oracle" not in name and not name.startswith("pixel")}
    of_masks = {name for name in both if name.startswith(("pixel", "miou"))}
    if label:
        assert of_masks <= defined | {"pixel_auroc", "pixel_aupimo"}  # these need normal images
        assert not of_normal & defined
    else:
        assert defined == of_normal
        assert {name: alone[name] for name in defined} == {name: both[name] for name in of_normal}
