"""Scoring: rules for image scores, resizing, regions, and the three selections."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, Scores, build_method, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import Entry
from nfbench.metrics import TRANSDUCTIVE, known_metrics, miou, miou_oracle
from nfbench.metrics._aupimo import aupimo
from nfbench.metrics._iou import mean_iou
from nfbench.metrics._tails import NormalScores
from nfbench.metrics._thresholds import contour_threshold
from nfbench.results.compose import select
from nfbench.scoring.evaluate import GroundTruth, evaluate
from nfbench.scoring.maps import ScoredImages, image_scores, log_nfa_maps, resize_map, score_images


def tail(maps):
    return NormalScores.of_maps(maps)


def entry(tmp_path, number, mask):
    path = ""
    if mask is not None:
        path = str(tmp_path / f"{number}.png")
        Image.fromarray((255 * mask).astype(np.uint8)).save(path)
    return Entry("test", int(mask is not None), "x", "i.png", path, 20, 30, "", file_sha256(path) if path else "")


@pytest.fixture
def truth(tmp_path):
    first, second = np.zeros((20, 30)), np.zeros((20, 30))
    first[2:4, 2:4] = first[4, 4] = 1  # corners touch: one region by 8-connectivity
    second[10:15, 20:25] = second[1, 1] = 1
    return GroundTruth([entry(tmp_path, number, mask) for number, mask in enumerate([None, first, second, None])])


def test_regions_are_8_connected(truth):
    assert truth.labels.tolist() == [0, 1, 1, 0]
    assert truth.n_regions == 3
    assert truth.pixel_count() == 4 * 600


def test_metrics_are_those_of_the_resized_maps(truth):
    maps = np.random.default_rng(0).random((4, 10, 15)).astype(np.float32)
    maps[1:3] += 0.2
    scored = ScoredImages(maps, image_scores(torch.from_numpy(maps), torch.arange(4.0)))
    normal_maps = np.random.default_rng(1).random((3, 10, 15)).astype(np.float32)
    evaluation = evaluate(scored, truth, tail(normal_maps), {})
    metrics = evaluation.metrics
    resized = np.stack([resize_map(score_map, 20, 30) for score_map in maps])
    labels = np.stack([np.zeros((20, 30)) if r is None else r > 0 for r in truth.regions])
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels.ravel(), resized.ravel()), abs=1e-12)
    assert metrics["image_auroc"] == pytest.approx(roc_auc_score(truth.labels, np.arange(4)))
    assert metrics["image_auroc_max"] == pytest.approx(roc_auc_score(truth.labels, maps.max((1, 2))))
    assert 0 <= metrics["pixel_aupro_05"] <= metrics["pixel_aupro"] <= 1
    fair = np.sort(normal_maps.ravel())[-4]
    assert evaluation.thresholds["fair"] == fair
    assert metrics["miou_fair"] == pytest.approx(miou(resized, labels, fair), abs=1e-12)
    assert metrics["miou_fair_pooled"] == pytest.approx(miou(resized, labels, fair, "pooled"), abs=1e-12)
    oracle = miou_oracle(resized, labels, "anomalous")
    assert metrics["miou_oracle_anomalous"] == pytest.approx(oracle.miou, abs=1e-12)
    at_best = miou(resized, labels, evaluation.thresholds["miou_oracle"])
    assert at_best == pytest.approx(metrics["miou_oracle"], abs=1e-12)
    assert not any("nfa" in name for name in metrics)


def test_aupimo_is_that_of_the_resized_maps_and_its_values_by_image_are_kept(truth):
    maps = np.random.default_rng(0).random((4, 10, 15)).astype(np.float32)
    maps[1:3] += 0.5
    scored = ScoredImages(maps, image_scores(torch.from_numpy(maps), torch.arange(4.0)))
    found = evaluate(scored, truth, tail(maps[:1]), {})
    resized = [resize_map(score_map, 20, 30) for score_map in maps]
    with pytest.warns(UserWarning, match="no threshold has a false positive rate below"):
        expected = aupimo(resized, [*truth.masks()])
    np.testing.assert_array_equal(found.by_image["pixel_aupimo"], expected)
    assert np.isnan(expected).tolist() == [True, False, False, True]
    assert found.metrics["pixel_aupimo"] == expected[1:3].mean()
    assert found.by_image.keys() == {"pixel_aupimo", "seg_f1_all", "seg_f1_all_sigma", "seg_f1_all_quantile"}
    for name, values in found.by_image.items():
        assert found.metrics[name] == pytest.approx(np.nanmean(values))


def test_some_families_are_measured_alone(truth):
    maps = np.zeros((4, 10, 15), dtype=np.float32)
    scored = ScoredImages(maps, image_scores(torch.from_numpy(maps), torch.arange(4.0)))
    assert evaluate(scored, truth, tail(maps[:1]), {}, ["false_alarms"]).metrics == {"false_alarms_fair": 0.0}
    with pytest.raises(NfbenchError, match="unknown family of metrics 'false_alarm'; did you mean 'false_alarms'"):
        evaluate(scored, truth, tail(maps[:1]), {}, ["false_alarm"])


def test_a_contrario_metrics(truth):
    """A bright spot on the defect of one image, a weaker one on a normal image; nothing elsewhere."""
    rng = np.random.default_rng(0)
    energies = rng.chisquare(64, (4, 10, 15))
    energies[2, 5:7, 10:12] *= 20
    energies[3, 4:6, 2:4] *= 5
    maps = np.zeros((4, 10, 15), dtype=np.float32)
    images = image_scores(torch.from_numpy(maps), torch.arange(4.0))
    scored = ScoredImages(maps, images, (energies,), (64,))
    log_nfa = log_nfa_maps(scored)
    assert {name: found.shape for name, found in log_nfa.items()} == dict.fromkeys(("nfa", "nfa_guard"), (4, 10, 15))
    evaluation = evaluate(scored, truth, tail(maps[:1]), log_nfa)
    assert evaluation.detections["nfa"].tolist() == [0, 0, 1, 1]
    metrics = evaluation.metrics
    assert metrics["false_alarms_nfa"] == metrics["false_alarms_nfa_guard"] == 0.5
    masks = [resized < 0 for resized in truth.resized(log_nfa["nfa"])]
    assert metrics["miou_nfa"] == pytest.approx(mean_iou(masks, truth.masks())["all"], abs=1e-12)
    assert metrics["miou_nfa_guard_anomalous"] == pytest.approx(metrics["miou_nfa_anomalous"], abs=1e-12)
    assert metrics["miou_nfa_oracle"] >= metrics["miou_nfa"]
    best = evaluation.thresholds["miou_nfa_oracle"]
    masks = [-resized > -best for resized in truth.resized(log_nfa["nfa"])]
    assert mean_iou(masks, truth.masks())["all"] == pytest.approx(metrics["miou_nfa_oracle"], abs=1e-12)


def test_detections_at_one_false_alarm_per_million(truth):
    """A weak detection on a normal image and a strong one on a defect, in maps of log NFA as they are."""
    log_nfa = np.ones((4, 20, 30), dtype=np.float32)
    log_nfa[0, 3:6, 3:6], log_nfa[3, 3:6, 3:6], log_nfa[3, 9, 9] = -3, -8, -6.5
    log_nfa[2, 10:15, 20:25], log_nfa[2, 10:15, 25:27] = -50, -4
    maps = np.zeros((4, 20, 30), dtype=np.float32)
    scored = ScoredImages(maps, image_scores(torch.from_numpy(maps), torch.arange(4.0)))
    metrics = evaluate(scored, truth, tail(maps[:1]), {"nfa": log_nfa, "nfa_guard": log_nfa}).metrics
    assert (metrics["false_alarms_nfa"], metrics["false_alarms_nfa_1e6"]) == (1.5, 1.0)
    assert (metrics["alarmed_fair"], metrics["alarmed_nfa"], metrics["alarmed_nfa_1e6"]) == (0.0, 1.0, 0.5)
    assert metrics["miou_nfa"] == pytest.approx(25 / 36 / 4, abs=1e-12)  # none of the good images is without an alarm
    assert metrics["miou_nfa_1e6"] == pytest.approx((1 + 25 / 26) / 4, abs=1e-12)
    assert metrics["miou_nfa_1e6_pooled"] == pytest.approx(25 / (31 + 10), abs=1e-12)


def test_the_metrics_that_a_table_may_ask_for_are_those_that_are_measured(truth):
    maps = np.random.default_rng(0).random((4, 10, 15)).astype(np.float32)
    images = image_scores(torch.from_numpy(maps), torch.arange(4.0))
    energies = (np.random.default_rng(1).chisquare(64, (4, 10, 15)),)
    scored = ScoredImages(maps, images, energies, (64,))
    own = evaluate(scored, truth, tail(maps[:1]), log_nfa_maps(scored)).metrics
    relative = evaluate(
        scored, truth, tail(maps[:1]), {}
    ).metrics  # as score_and_evaluate measures transductive methods
    listed = known_metrics().items()
    named = [name for name, named in listed if not (named.metric.needs_channels or named.metric.needs_samples)]
    assert sorted(named) == sorted([*own, *(f"{name}{TRANSDUCTIVE}" for name in relative)])


def test_latents_give_energies():
    shapes = [LevelShape(8, 4, 4), LevelShape(12, 2, 2)]
    method = build_method("uflow", shapes, resolve_settings("uflow"), (8, 8), 0).eval()
    levels = [np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float16) for shape in shapes]
    features = Features(levels)
    scored = score_images(method, features, torch.device("cpu"))
    latents, _ = method.latents(features.map(lambda level: torch.from_numpy(level).float()))
    assert scored.channels == tuple(z.shape[1] for z in latents)
    for energies, z in zip(scored.energies, latents, strict=True):
        np.testing.assert_allclose(energies, z.detach().double().square().sum(1).numpy(), rtol=1e-5)


def test_without_masks_there_are_no_pixel_metrics(tmp_path):
    entries = [entry(tmp_path, 0, None), Entry("test", 1, "x", "i.png", "", 20, 30, "", "")]
    maps = np.arange(2 * 4, dtype=np.float32).reshape(2, 2, 2)
    scored = ScoredImages(maps, image_scores(torch.from_numpy(maps), torch.arange(2.0)))
    metrics = evaluate(scored, GroundTruth(entries), tail(maps[:1]), {}).metrics
    assert {name for name in metrics if not known_metrics()[name].metric.name.startswith("image_")} == {
        "false_alarms_fair",
        "alarmed_fair",
        *("class_f1", "class_f1_sigma", "class_f1_quantile"),
    }


def test_image_scores_by_rule():
    maps = torch.zeros(1, 20, 20)
    maps[0, 0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    scores = image_scores(maps, torch.tensor([7.0]))
    assert {rule: float(value[0]) for rule, value in scores.items()} == pytest.approx(
        {"paper": 7, "max": 4, "mean": 10 / 400, "top1": 2.5}
    )


def test_resize_is_bilinear_with_pixel_centres():
    row = resize_map(np.array([[0.0, 1.0]], dtype=np.float32), 1, 4)[0]
    assert row.tolist() == [0.0, 0.25, 0.75, 1.0]


def test_scores_that_are_not_finite_are_named():
    shapes = [LevelShape(8, 4, 4)]
    method = build_method("fastflow", shapes, resolve_settings("fastflow"), (8, 8), 0).eval()
    method.score = lambda features: Scores(torch.full((len(features), 8, 8), torch.nan), torch.zeros(len(features)))
    with pytest.raises(NfbenchError, match="scores of 3 images are not finite, first image 0"):
        score_images(method, Features([np.zeros((3, 8, 4, 4), np.float16)]), torch.device("cpu"))


A, B = "image_auroc", "image_ap"
BY_EPOCH = {2: {A: 0.9, B: 0.1}, 4: {A: 0.8, B: 0.3}, 6: {A: 0.7, B: 0.2}}


def test_selections():
    chosen = select(BY_EPOCH, {1: 9.0, 2: 1.0, 3: 9.0, 4: 3.0, 5: 9.0, 6: 2.0})
    assert chosen["last"] == {"epoch": 6, "metrics": BY_EPOCH[6]}
    assert chosen["val"] == {"epoch": 4, "metrics": BY_EPOCH[4]}
    assert chosen["oracle"] == {"epoch": {A: 2, B: 4}, "metrics": {A: 0.9, B: 0.3}}


def test_no_val_without_held_out_images():
    assert set(select(BY_EPOCH, dict.fromkeys(range(7)))) == {"last", "oracle"}


def test_the_oracle_has_the_fewest_false_alarms():
    chosen = select({1: {"false_alarms_nfa": 0.2}, 2: {"false_alarms_nfa": 0.1}, 3: {"false_alarms_nfa": 0.4}}, {})
    assert chosen["oracle"] == {"epoch": {"false_alarms_nfa": 2}, "metrics": {"false_alarms_nfa": 0.1}}


def test_undefined_metrics_do_not_hinder_the_oracle():
    chosen = select({1: {A: None}, 2: {A: 0.4}, 3: {A: None}}, {})
    assert chosen["oracle"]["metrics"] == {A: 0.4}


def test_the_contour_threshold_is_a_quantile_of_all_pixels():
    rng = np.random.default_rng(0)
    for shape in ((32, 256, 256), (2, 100, 100), (3, 2, 5)):
        maps = rng.standard_normal(shape).astype(np.float32)
        assert contour_threshold(tail(maps).tail) == pytest.approx(float(np.quantile(maps, 0.999)), rel=1e-6)
