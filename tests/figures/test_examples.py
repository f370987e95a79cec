"""Figures of examples draw each map next to its own image, and nothing for missing maps."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from nfbench.core.errors import NfbenchError
from nfbench.figures._base import read_runs
from nfbench.figures.maps import MapsFigure
from nfbench.figures.segmentation import SegmentationFigure
from nfbench.figures.variances import VariancesFigure
from nfbench.results.files import DetectedRegion, write_rows
from tests.made_up import MadeUp, relist, save_examples

REGIONS = [  # of normal images: one with NFA < 1e-6, another with NFA < 1
    (image, label, name, 4, 0, 0, 2, 2, log_nfa)
    for image, label, name, log_nfa in [
        ("0.png", 0, "nfa", -7.5),
        ("0.png", 0, "nfa", -0.5),
        ("2.png", 0, "nfa", -5.5),
        ("1.png", 1, "nfa", -90.0),
        ("4.png", 0, "nfa_guard", -90.0),
    ]
]


@pytest.fixture
def runs(tmp_path):
    """Two runs, the second of a test set without image 1; each map is filled with its image's number."""
    made = MadeUp(tmp_path, {"uflow": "uflow", "bgad": "bgad"}, ("bottle",), seeds=1, images=True).write()
    found = read_runs(dict.fromkeys(made.cells, ""), made.paths)
    kept = [([2, 1, 3, 0, 4], 3), ([2, 3, 0], 2)]
    for run, (index, n_shown) in zip(found, kept, strict=True):
        maps = np.stack([np.full((8, 8), number, dtype=np.float32) for number in index])
        suspect = np.arange(len(index)) >= n_shown
        save_examples(run.folder, index, suspect, maps=maps, nfa=-maps)
        write_rows(DetectedRegion, run.folder, REGIONS)
        relist(run.folder / "run.json")
    segmentation = SimpleNamespace(false_alarms={"nfa": None}, thresholds={})
    yield [replace(run, record=run.record.model_copy(update={"segmentation": segmentation})) for run in found]
    plt.close("all")


def drawn(figure, rows, columns):
    """Value in the middle of each picture; None without a picture."""
    axes = np.array(figure.axes).reshape(rows, -1)[:, columns]
    pictures = [[axis.get_images() for axis in row] for row in axes]
    return [[float(found[0].get_array()[128, 128]) if found else None for found in row] for row in pictures]


def test_maps_lie_beside_their_images(runs):
    assert drawn(MapsFigure().draw(runs), 3, [2, 4]) == [[2, 2], [1, None], [3, 3]]


def test_segmentations_lie_beside_their_images(runs):
    """The last rows are each run's own most anomalous normal images, of which the second run has one."""
    assert drawn(SegmentationFigure().draw(runs), 5, [2, 5]) == [[2, 2], [1, None], [3, 3], [0, 0], [4, None]]


def test_detections_are_drawn_and_alarms_counted_at_each_nfa(runs):
    figure = SegmentationFigure(nfa=(1, 1e-6, 1e-2)).draw(runs)
    axes = np.array(figure.axes).reshape(5, 12)
    totals = [run.record.data.n_test_normal for run in runs]
    for column, total in zip((4, 9), totals, strict=True):
        titles = [axis.get_title() for axis in axes[0, column : column + 3]]
        found = zip(("1", "1e-6", "0.01"), (2, 1, 2), strict=True)
        assert titles == [f"NFA < {nfa}\nalarms in {count} of {total}\nnormal images" for nfa, count in found]
    for row, number in enumerate([2, 1, 3]):  # log NFA is -number everywhere
        masks = [axis.get_images()[1].get_array()[..., 3] for axis in axes[row, 4:7]]
        assert [bool(mask.all()) for mask in masks] == [True, False, number > 2]


def test_variances_lie_beside_the_images_of_the_runs_that_predict_them(runs):
    with pytest.raises(NfbenchError, match="needs a run that predicts variances, but there is none"):
        VariancesFigure().draw(runs)
    variances = np.linspace(0.01, 2, 5)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32)
    for run in runs[:1]:
        with np.load(run.folder / "examples.npz") as archive:
            np.savez(run.folder / "examples.npz", **dict(archive), variances=variances)
        relist(run.folder / "run.json")
    figure = VariancesFigure().draw(runs)
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert [axis.get_title().splitlines()[-1] for axis in panels[:3]] == ["image", "ground truth", "predicted variance"]
    for axis, expected in zip(panels[2::3], variances[:3], strict=True):
        (shown,) = axis.get_images()
        np.testing.assert_array_equal(shown.get_array(), expected)
        assert shown.get_extent() == panels[0].get_images()[0].get_extent()
        assert shown.norm.vmin == pytest.approx(0.01)
        assert shown.norm.vmax == pytest.approx(2)


def test_a_run_that_is_missing_leaves_its_columns_empty(tmp_path):
    made = MadeUp(tmp_path, {"uflow": "uflow", "bgad": "bgad"}, ("bottle", "carpet"), seeds=1, images=True).write()
    found = read_runs(dict.fromkeys(made.cells, ""), made.paths)
    for run in found:
        maps = np.full((1, 8, 8), 7, dtype=np.float32)
        save_examples(run.folder, [1], [False], maps=maps)
        relist(run.folder / "run.json")
    left = [run for run in found if (run.cell.method, run.cell.category) != ("uflow", "carpet")]
    assert drawn(MapsFigure().draw(left), 2, [2, 4]) == [[7, 7], [None, 7]]
    plt.close("all")
