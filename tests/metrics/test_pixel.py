"""Pixel metrics of maps and masks: parity with scikit-learn and anomalib, invariances, bad input, memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from nfbench.metrics import aupro, average_precision, pixel_areas, pixel_auroc
from nfbench.metrics._iou import iou_sweep
from nfbench.metrics._pixel import rank
from nfbench.metrics._ranking import areas_under_curves

KINDS = ("gaussian", "strong", "saturated", "heavy-tailed", "rings", "ties", "no defect in half", "one-pixel regions")


def make(kind: str, seed: int = 0, n_images: int = 8, size: int = 48):
    """Maps and masks of one kind; every second image is good."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((n_images, size, size), dtype=bool)
    for mask in masks[: n_images // 2 if kind != "no defect in half" else n_images // 4]:
        for _ in range(3):
            if kind == "one-pixel regions":
                mask[tuple(rng.integers(0, size, 2))] = True
                continue
            (top, left), (height, width) = rng.integers(0, size - 14, 2), rng.integers(5, 14, 2)
            mask[top : top + height, left : left + width] = True
            if kind == "rings":
                mask[top + 2 : top + height - 2, left + 2 : left + width - 2] = False
    maps = rng.normal(size=masks.shape) + (4.0 if kind == "strong" else 1.5) * masks
    if kind == "saturated":
        maps = np.clip(maps / 4 + 0.3, 0, 1)
    elif kind == "heavy-tailed":
        maps = np.exp(4 * maps)
    elif kind == "ties":
        maps = np.round(maps)
    return maps, masks


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_agreement_with_scikit_learn(kind, dtype):
    maps, masks = make(kind)
    maps = maps.astype(dtype)
    assert pixel_auroc(maps, masks) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    expected = average_precision_score(masks.ravel(), maps.ravel())
    assert average_precision(maps, masks) == pytest.approx(expected, abs=1e-12)
    areas = pixel_areas(maps, masks)
    precision, recall, _ = precision_recall_curve(masks.ravel(), maps.ravel())
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))
    assert areas.f1 == pytest.approx(best, abs=1e-12)
    assert f1_score(masks.ravel(), maps.ravel() > areas.f1_threshold) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("limit", [0.3, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_agreement_with_anomalib(kind, limit):
    peer = pytest.importorskip("anomalib.metrics.aupro", reason="anomalib is not installed")
    maps, masks = make(kind)
    metric = peer._AUPRO(fpr_limit=limit)
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks.astype(int)))
    assert aupro(maps, masks, limit) == pytest.approx(float(metric.compute()), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([np.float32, np.float64]),
    transform=st.sampled_from([np.exp, lambda x: x**3, np.arctan, lambda x: 5 * x - 2]),
)
def test_invariance_under_increasing_maps(kind, seed, dtype, transform):
    maps, masks = make(kind, seed, n_images=4, size=24)
    maps = np.argsort(np.argsort(maps.ravel())).reshape(maps.shape) if kind != "ties" else maps
    maps = (maps / np.abs(maps).max() * 3).astype(dtype)
    moved = transform(maps)
    assert moved.dtype == dtype
    if len(np.unique(moved)) < len(np.unique(maps)):
        return  # not strictly increasing in this precision
    before, after = pixel_areas(maps, masks, (0.3, 0.05)), pixel_areas(moved, masks, (0.3, 0.05))
    assert np.array_equal(np.hstack(before[:4]), np.hstack(after[:4]))


def test_float64_is_ranked_without_loss():
    maps = np.array([[1.0, 1.0 + 1e-12, 1.0 + 2e-12, 0.0]])
    masks = np.array([[0, 0, 1, 0]])
    assert pixel_auroc([maps], [masks]) == 1.0
    assert pixel_auroc([maps.astype(np.float32)], [masks]) < 1


def test_sizes_may_differ_and_tensors_are_taken():
    maps, masks = make("gaussian")
    maps, masks = [*maps[:4], maps[4][:20, :30]], [*masks[:4], masks[4][:20, :30]]
    flat = np.concatenate([score_map.ravel() for score_map in maps])
    truth = np.concatenate([mask.ravel() for mask in masks])
    tensors = [torch.from_numpy(score_map) for score_map in maps], [torch.from_numpy(mask) for mask in masks]
    assert pixel_auroc(*tensors) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)


def test_limits_share_one_call():
    maps, masks = make("gaussian")
    assert pixel_areas(maps, masks, (0.3, 0.05)).aupro == (aupro(maps, masks, 0.3), aupro(maps, masks, 0.05))


def test_tensors_of_all_kinds_are_taken():
    maps, masks = make("gaussian", n_images=2, size=16)
    expected = pixel_auroc(maps.astype(np.float32), masks)
    tensors = [torch.from_numpy(score_map).float().requires_grad_() for score_map in maps]
    assert pixel_auroc(tensors, masks) == expected
    coarse = [tensor.detach().bfloat16() for tensor in tensors]
    assert pixel_auroc(coarse, masks) == pixel_auroc([tensor.float() for tensor in coarse], masks)
    assert pixel_auroc((100 * maps).astype(int), masks) == pytest.approx(expected, abs=0.01)
    with pytest.raises(ValueError, match="expected real numbers, got complex"):
        pixel_auroc(maps.astype(complex), masks)


@pytest.mark.parametrize("constant", [False, True], ids=["distinct", "tied"])
def test_memory_is_8_bytes_per_pixel_and_a_constant(constant):
    side, n_images = 512, 16
    maps = np.random.default_rng(0).random((n_images, side, side), dtype=np.float32)
    maps = np.zeros_like(maps) if constant else maps
    masks = np.zeros(maps.shape, dtype=bool)
    masks[::2, 10:60, 20:90] = True
    tracemalloc.start()
    ranked = rank(maps, masks)
    areas_under_curves(ranked)
    iou_sweep(ranked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * maps.size + 60e6


@pytest.mark.parametrize("limit", [0, -0.1, 1.2])
def test_bad_limit_is_refused(limit):
    with pytest.raises(ValueError, match=r"'fpr_limit' must be in \(0, 1\]"):
        aupro(*make("gaussian"), limit)


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_of_pixels_alone_is_undefined(value):
    with pytest.warns(UserWarning, match="undefined without both normal and anomalous"):
        assert np.isnan(aupro([np.eye(4)], [np.full((4, 4), value)]))


def broken(index, value):
    maps, masks = make("gaussian", n_images=4, size=24)
    maps[index, 2, 2] = value
    return list(maps), list(masks)


def with_mask(change):
    maps, masks = make("gaussian", n_images=4, size=24)
    masks = [mask.astype(int) for mask in masks]
    masks[1] = change(masks[1])
    return list(maps), masks


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (broken(2, np.nan), "'maps' must be finite, image 2"),
        (broken(1, -np.inf), "'maps' must be finite, image 1"),
        (with_mask(lambda mask: mask * 3), "image 1: a mask holds 0 and 1, this one 0, 3; give mask > 0"),
        (with_mask(lambda mask: mask * 255), "image 1: a mask holds 0 and 1, this one 0, 255"),
        (with_mask(lambda mask: mask[:5]), r"image 1: the mask has shape \(5, 24\), the map \(24, 24\)"),
        (([np.zeros((3, 3))], []), r"as many images as 'maps' \(1\), got 0"),
        (([], []), "at least one image"),
        (([np.zeros(3)], [np.zeros(3)]), r"must have shape \(H, W\), image 0 has \(3,\)"),
    ],
)
def test_bad_input_is_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        pixel_areas(*pair)
