"""Inputs of all metrics: one table of accepted inputs for every public function, and one of refused inputs."""

import importlib
import pkgutil

import numpy as np
import pytest
import torch

import nfbench.metrics
from nfbench.metrics import _base
from nfbench.metrics import _inputs as inputs
from nfbench.metrics._aupimo import aupimo
from nfbench.metrics._calibration import chi_square_quantiles
from nfbench.metrics._iou import iou_sweep, mean_iou
from nfbench.metrics._legacy import MODES, legacy_aupro
from nfbench.metrics._pixel import rank
from nfbench.metrics._ranking import RankedScores, areas_under_curves, dense_ranks, image_areas
from nfbench.metrics._thresholds import conformal_threshold, image_threshold, p_values
from nfbench.scoring.a_contrario import log_nfa, regions

SCORES = np.array([[[0, 1, 0], [1, 2, 1], [0, 3, 1]], [[1, 0, 0], [0, 1, 0], [2, 0, 1]]])
"""Small integers, which all types hold without loss."""
MASKS = np.array([[[0, 0, 0], [0, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]])

OF_PAIRS = {
    "aupro": nfbench.metrics.aupro,
    "average_precision": nfbench.metrics.average_precision,
    "pixel_auroc": nfbench.metrics.pixel_auroc,
    "pixel_areas": nfbench.metrics.pixel_areas,
    "rank": lambda maps, masks: areas_under_curves(rank(maps, masks)),
    "miou": lambda maps, masks: nfbench.metrics.miou(maps, masks, 1.5),
    "miou_curve": lambda maps, masks: nfbench.metrics.miou_curve(maps, masks, [0.5, 1.5]),
    "miou_oracle": nfbench.metrics.miou_oracle,
    **{f"legacy_aupro {mode}": lambda maps, masks, mode=mode: legacy_aupro(maps, masks, mode) for mode in MODES},
    "aupimo": lambda maps, masks: aupimo(maps, masks, (0.2, 0.9)),
    "image_areas": lambda maps, masks: image_areas(_flat(maps[0]), _flat(masks[0])),
}
"""Functions of scores and truth."""
OF_TRUTHS = {"mean_iou": mean_iou}
"""Functions of two masks."""
OF_SCORES = {
    "fair_threshold": nfbench.metrics.fair_threshold,
    "dense_ranks": lambda maps: dense_ranks(maps)[1],
    "ranked_scores": lambda maps: _ranked(maps)[:4],
    "conformal_threshold": lambda maps: [conformal_threshold(part, 0.2) for part in maps],
    "image_threshold": lambda maps: [image_threshold(part, "sigma") for part in maps],
    "p_values": lambda maps: [p_values(maps[0], part) for part in maps],
    "chi_square_quantiles": lambda maps: [chi_square_quantiles(part, 3) for part in maps],
    "log_nfa": lambda maps: log_nfa([maps], (3, 3)),
    "regions": lambda maps: [regions(part, threshold=2.5) for part in maps],
}
"""Functions of scores, or of other real numbers."""
OF_THRESHOLDS = {
    "miou": lambda values: [nfbench.metrics.miou(SCORES, MASKS, value) for value in values],
    "miou_curve": lambda values: nfbench.metrics.miou_curve(SCORES, MASKS, values),
    "iou_sweep": lambda values: iou_sweep(rank(SCORES, MASKS), values).curve,
}


def _flat(part):
    return [value for row in part for value in row] if isinstance(part, list) else part.reshape(-1)


def _ranked(maps):
    collected = RankedScores(sum(np.size(inputs.as_array(part)) for part in maps))
    for part in maps:
        collected.add(part, inputs.as_array(part) > 1)
    return areas_under_curves(collected)


def _with_gradient(array):
    return torch.from_numpy(array).float().requires_grad_()


NUMPY = [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64]
TORCH = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int32, torch.int64]
KINDS = {
    **{np.dtype(kind).name: lambda array, kind=kind: array.astype(kind) for kind in NUMPY},
    **{str(kind): lambda array, kind=kind: torch.from_numpy(array).to(kind) for kind in TORCH},
    "with gradient": _with_gradient,
    "nested lists": lambda array: array.tolist(),
    "lists of floats": lambda array: array.astype(float).tolist(),
    "list of arrays": list,
    "list of tensors": lambda array: list(_with_gradient(array)),
    "nested lists of tensors": lambda array: [[list(row) for row in image] for image in _with_gradient(array)],
    "reversed strides": lambda array: array[:, ::-1].copy()[:, ::-1],
    "big-endian": lambda array: array.astype(">f4"),
}
TRUTHS = {**KINDS, "bool": lambda array: array.astype(bool), "torch.bool": lambda array: torch.from_numpy(array).bool(),
          "negative zero": lambda array: np.where(array > 0, 1.0, -0.0),
          "lists of booleans": lambda array: array.astype(bool).tolist()}  # fmt: skip


def _same(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return bool(np.allclose(found, expected, rtol=1e-6, equal_nan=True))


def test_the_tables_name_every_public_function():
    tested = {name.split()[0] for table in (OF_PAIRS, OF_TRUTHS, OF_SCORES, OF_THRESHOLDS) for name in table}
    tested |= {
        "areas_under_curves",
        "fair_threshold_of",
        "just_below",
        "largest",
        "contour_threshold",
        "pixel_threshold",
    }  # of what the others return
    tested |= {"conformal_rank", "rates", "saturation_area"}  # of numbers and words
    tested |= {"au_spro"}  # of scores and channels: tests/metrics/test_spro.py
    tested |= {"kinds_of", "with_normal"}  # of scored sets: tests of the metrics that average over kinds
    tested |= {"have_samples", "over_samples", "sample_of"}  # of manifests: tests/metrics/test_sample_auroc.py
    tested |= {"aupimo_of", "au_spro_of", "f1", "image_f1"}  # of checked scores, masks and counts
    for module in pkgutil.iter_modules(nfbench.metrics.__path__, "nfbench.metrics."):
        found = importlib.import_module(module.name)
        public = {name for name in found.__all__ if getattr(found, name).__class__.__name__ == "function"}
        assert found in (inputs, _base) or public <= tested, public - tested


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_PAIRS)
def test_scores_of_every_kind_give_one_number(name, kind):
    assert _same(OF_PAIRS[name](KINDS[kind](SCORES), MASKS), OF_PAIRS[name](SCORES, MASKS.astype(bool)))


@pytest.mark.parametrize("kind", TRUTHS)
@pytest.mark.parametrize("name", OF_PAIRS)
def test_labels_and_masks_of_every_kind_give_one_number(name, kind):
    assert _same(OF_PAIRS[name](SCORES, TRUTHS[kind](MASKS)), OF_PAIRS[name](SCORES, MASKS.astype(bool)))


@pytest.mark.parametrize("kind", TRUTHS)
def test_detections_of_every_kind_give_one_number(kind):
    detected = (SCORES > 1).astype(int)
    expected = mean_iou(detected.astype(bool), MASKS.astype(bool))
    assert _same(mean_iou(TRUTHS[kind](detected), TRUTHS[kind](MASKS)), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_SCORES)
def test_numbers_of_every_kind_give_one_result(name, kind):
    assert _same(OF_SCORES[name](KINDS[kind](SCORES)), OF_SCORES[name](SCORES.astype(np.float64)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_THRESHOLDS)
def test_thresholds_of_every_kind_give_one_result(name, kind):
    values = np.array([[[0, 1, 2]]])
    assert _same(OF_THRESHOLDS[name](KINDS[kind](values)[0][0]), OF_THRESHOLDS[name]([0, 1, 2]))


def _with(array, value, dtype=float):
    changed = array.astype(dtype)
    changed[0, 0, 0] = value
    return changed


NO_TRUTH = {
    "-1": _with(MASKS, -1, int),
    "255": MASKS * 255,
    "2": _with(MASKS, 2, np.uint8),
    "0.5": _with(MASKS, 0.5),
    "NaN": _with(MASKS, np.nan),
    "infinity": _with(MASKS, np.inf),
    "-1 and 1": 2 * MASKS - 1,
    "text": MASKS.astype(str),
    "objects": MASKS.astype(object),
    "complex": MASKS.astype(complex),
    "tensor of 255": torch.from_numpy(MASKS) * 255,
    "lists of 2": (2 * MASKS).tolist(),
}
NO_SCORES = {
    "NaN": _with(SCORES, np.nan),
    "infinity": _with(SCORES, np.inf),
    "minus infinity": _with(SCORES, -np.inf),
    "tensor of NaN": torch.from_numpy(_with(SCORES, np.nan)).requires_grad_(),
    "list of NaN": _with(SCORES, np.nan).tolist(),
    "text": SCORES.astype(str),
    "objects": SCORES.astype(object),
    "complex": SCORES.astype(complex),
    "dates": SCORES.astype("datetime64[D]"),
    "masked": np.ma.masked_equal(SCORES, 3),
    "ragged": [[[0, 1], [2]]] * 2,
}  # fmt: skip


@pytest.mark.parametrize("kind", NO_TRUTH)
@pytest.mark.parametrize("name", {**OF_PAIRS, **OF_TRUTHS})
def test_labels_and_masks_other_than_0_and_1_are_refused(name, kind):
    first = MASKS if name in OF_TRUTHS else SCORES
    with pytest.raises(ValueError, match=r"holds 0 and 1|expected real numbers"):
        {**OF_PAIRS, **OF_TRUTHS}[name](first, NO_TRUTH[kind])


@pytest.mark.parametrize("kind", [kind for kind in NO_SCORES if kind != "ragged"])
@pytest.mark.parametrize("name", OF_PAIRS)
def test_scores_that_are_no_numbers_are_refused(name, kind):
    with pytest.raises(ValueError, match=r"must be finite|expected real numbers|inhomogeneous"):
        OF_PAIRS[name](NO_SCORES[kind], MASKS)


@pytest.mark.parametrize("kind", NO_SCORES)
@pytest.mark.parametrize("name", OF_SCORES)
def test_numbers_that_are_none_are_refused(name, kind):
    with pytest.raises(ValueError, match=r"must be finite|expected real numbers|inhomogeneous"):
        OF_SCORES[name](NO_SCORES[kind])


@pytest.mark.parametrize("value", [np.nan, torch.tensor(np.nan), "1", 1j])
@pytest.mark.parametrize("name", OF_THRESHOLDS)
def test_thresholds_that_are_none_are_refused(name, value):
    with pytest.raises(ValueError, match=r"NaN|expected real numbers"):
        OF_THRESHOLDS[name]([value])


@pytest.mark.parametrize("name", [name for name in OF_PAIRS if name != "image_areas"])
def test_tensors_that_numpy_cannot_hold_are_refused(name):
    with pytest.raises(ValueError, match=r"expected real numbers, got Tensor"):
        OF_PAIRS[name](list(torch.from_numpy(SCORES).to_sparse()), MASKS)


def test_lists_of_unequal_lengths_are_refused():
    for call in (lambda given: image_areas(given, [0, 1]), lambda given: image_areas([0.1, 0.2], given)):
        with pytest.raises(ValueError, match=r"inhomogeneous"):
            call([[0, 1], [1]])


SHAPES = {
    "no images": (SCORES[:0], MASKS[:0]),
    "one mask less": (SCORES, MASKS[:1]),
    "one map less": (SCORES[:1], MASKS),
    "another height": (SCORES, MASKS[:, :2]),
    "another width": (SCORES[:, :, :2], MASKS),
    "a channel too many": (SCORES[:, None], MASKS[:, None]),
    "one map alone": (SCORES[0], MASKS[0]),
    "no pixels": (SCORES[:, :0], MASKS[:, :0]),
    "transposed": (np.zeros((2, 3, 4)), np.zeros((2, 4, 3))),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [name for name in OF_PAIRS if name != "image_areas"])
def test_shapes_that_do_not_fit_are_refused(name, shape):
    with pytest.raises(ValueError, match=r"shape|as many images|at least one image"):
        OF_PAIRS[name](*SHAPES[shape])


@pytest.mark.parametrize(
    ("scores", "labels"),
    [([], []), (0.5, 1), ([[0.5, 1]], [[0, 1]]), ([0.5, 1], [0]), ([0.5], [0, 1]), ([0.5, 1], [[0, 1]])],
)
def test_shapes_of_image_scores_that_do_not_fit_are_refused(scores, labels):
    with pytest.raises(ValueError, match=r"'scores' must have shape|'labels' must have the shape"):
        image_areas(scores, labels)


@pytest.mark.parametrize("regions_given", [[[-1, 0]], [[0.5, 0]], [["a", "b"]]])
def test_regions_other_than_numbers_from_0_on_are_refused(regions_given):
    with pytest.raises(ValueError, match=r"integers from 0 on|expected real numbers"):
        RankedScores(2).add([[1.0, 2.0]], regions_given)


@pytest.mark.parametrize(("energies", "channels"), [([], 3), ([-1.0], 3), ([1.0], 0), ([1.0], float("nan"))])
def test_energies_that_no_latents_have_are_refused(energies, channels):
    with pytest.raises(ValueError, match=r"'energies'|'channels'"):
        chi_square_quantiles(energies, channels)


def test_large_integers_are_ranked_without_loss():
    scores = [2**53, 2**53 + 1]
    assert image_areas(scores, [0, 1]).auroc == 1.0
    assert nfbench.metrics.pixel_auroc([[scores]], [[[0, 1]]]) == nfbench.metrics.pixel_auroc([[[1, 2]]], [[[0, 1]]])
