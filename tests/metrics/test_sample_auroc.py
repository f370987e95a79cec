"""Sample AUROC of Real-IAD and the image AUROC of MVTec LOCO, against direct counts of pairs."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest
from nfbench.metrics import BY_RULE, find_metric
from nfbench.metrics._samples import have_samples, over_samples, sample_of
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.evaluate import GroundTruth, ScoredSet, evaluate
from nfbench.scoring.maps import ScoredImages


def pairs_auroc(scores, labels) -> float:
    """The share of pairs of a normal and an anomalous one that are in order; ties count half."""
    good = [score for score, label in zip(scores, labels, strict=True) if not label]
    bad = [score for score, label in zip(scores, labels, strict=True) if label]
    return float(np.mean([(b > g) + 0.5 * (b == g) for b in bad for g in good])) if good and bad else math.nan


def value(name, entries, scores):
    labels = np.array([entry.label for entry in entries])
    truth = SimpleNamespace(entries=entries, labels=labels, has_masks=True, has_channels=True)
    images = ScoredImages(None, dict.fromkeys(BY_RULE, np.array(scores, dtype=np.float32)))
    named = find_metric(name)
    return named.metric.value(ScoredSet(images, truth, lambda: None, {}), named.variant)


def view(part, number, label, kind=None):
    kind = kind or ("NG_AK" if label else "OK")
    return SimpleNamespace(image=f"/data/pcb/S{part:04}/pcb_{part:04}_{kind}_C{number}_2023.jpg", label=label)


@pytest.mark.parametrize(
    ("image", "sample"),
    [
        ("realiad_1024/usb_adaptor/OK/S0001/usb_adaptor_0001_OK_C1_20231021124338.jpg", "usb_adaptor_0001_OK"),
        ("realiad_256/transistor1/NG/BX/S0002/transistor1_0002_NG_BX_C5_2023.jpg", "transistor1_0002_NG_BX"),
        ("u_block_0123_NG_HS_C3_x.png", "u_block_0123_NG_HS"),
        ("bottle/test/good/000.png", ""),
        ("pcb_0001_OK_C1/000.jpg", ""),
        ("pcb_001_OK_C1_2023.jpg", ""),
        ("", ""),
    ],
)
def test_samples_are_named_by_files(image, sample):
    assert sample_of(image) == sample


def test_all_images_must_name_their_sample():
    names = [view(1, 1, 0).image, view(1, 2, 0).image]
    assert have_samples(names)
    assert not have_samples([*names, "pcb/000.jpg"])
    assert not have_samples([])


def test_the_most_anomalous_view_counts():
    """Two normal and two defective parts of two views; one defective view is normal, since it hides the defect."""
    entries = [
        view(1, 1, 0), view(1, 2, 0), view(2, 1, 0), view(2, 2, 0),
        view(3, 1, 1), view(3, 2, 0, "NG_AK"), view(4, 1, 1), view(4, 2, 1),
    ]  # fmt: skip
    scores = [1, 5, 2, 3, 4, 0, 9, 1]
    assert value("sample_auroc", entries, scores) == 0.75  # parts: 5 and 3 normal, 4 and 9 defective
    assert value("image_auroc", entries, scores) == pytest.approx(
        pairs_auroc(scores, [0, 0, 0, 0, 1, 0, 1, 1]), abs=1e-12
    )
    found, labels = over_samples([entry.image for entry in entries], scores, [entry.label for entry in entries])
    assert (found.tolist(), labels.tolist()) == ([5, 3, 4, 9], [0, 0, 1, 1])


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1), st.integers(-3, 3)), min_size=1, max_size=30))
def test_it_is_the_share_of_ordered_pairs_of_parts(views):
    """Also for parts with other numbers of views, in any order, with ties."""
    entries = [view(part, 1 + number % 5, label, "NG_AK") for number, (part, label, _) in enumerate(views)]
    scores = [score for *_, score in views]
    best, bad = {}, {}
    for part, label, score in views:
        best[part], bad[part] = max(best.get(part, -9), score), max(bad.get(part, 0), label)
    expected = pairs_auroc([best[part] for part in best], [bad[part] for part in best])
    assert value("sample_auroc", entries, scores) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(st.lists(st.tuples(st.sampled_from(["good", "logical", "structural"]), st.integers(-3, 3)), min_size=1))
def test_kinds_of_anomalies_are_averaged_not_pooled(images):
    kinds = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
    entries = [SimpleNamespace(label=int(kind != "good"), defect=kinds.get(kind, "good")) for kind, _ in images]
    scores = [score for _, score in images]
    by_kind = {}
    for kind in kinds:
        chosen = [(score, found == kind) for found, score in images if found in ("good", kind)]
        by_kind[kind] = pairs_auroc(*zip(*chosen, strict=True)) if chosen else math.nan
        found = value(f"image_auroc_kinds_{kind}", entries, scores)
        assert found == pytest.approx(by_kind[kind], abs=1e-12, nan_ok=True)
    there = [area for kind, area in by_kind.items() if any(found == kind for found, _ in images)]
    expected = float(np.mean(there)) if there else math.nan
    assert value("image_auroc_kinds", entries, scores) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("dataset", "category", "measured"),
    [("real_iad_noisy_10", "pcb", {"sample_auroc"}), ("mvtec_loco", "pushpins", {"image_auroc_kinds"}),
     ("mpdd", "tubes", set())],
)  # fmt: skip
def test_datasets_without_samples_or_kinds_do_not_have_it(tmp_path, dataset, category, measured):
    reader = find_dataset(dataset)
    reader.miniature(tmp_path)
    found = build_manifest(reader.samples(tmp_path, category))
    entries = [entry for entry in found if entry.split == "test"]
    maps = np.random.default_rng(0).random((len(entries), 8, 8)).astype(np.float32)
    scored = ScoredImages(maps, dict.fromkeys(BY_RULE, maps.max((1, 2))))
    metrics = evaluate(scored, GroundTruth(entries), NormalScores.of_maps(maps[:2]), {}).metrics
    assert {"sample_auroc", "image_auroc_kinds"} & metrics.keys() == measured
    labels, scores = [entry.label for entry in entries], maps.max((1, 2))
    if "sample_auroc" in measured:
        parts = {}
        for entry, score in zip(entries, scores, strict=True):
            parts.setdefault(entry.image.rpartition("_C")[0], []).append((score, entry.label))
        best = [tuple(np.max(part, axis=0)) for part in parts.values()]
        assert len(parts) < len(labels)
        assert metrics["sample_auroc"] == pytest.approx(pairs_auroc(*zip(*best, strict=True)), abs=1e-12)
