"""The figure of a metric along a setting: means, ranges over seeds, and panels."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib import pyplot as plt

from nfbench.core.errors import NfbenchError
from nfbench.figures._base import DrawnRun, NothingToDraw
from nfbench.figures.sensitivity import SensitivityFigure


def run(title, lr, auroc, *, setting="one-class", category="bottle", seed=0, method="fastflow"):
    cell = SimpleNamespace(setting=setting, category=category, seed=seed, backbone="resnet18@256", method=title)
    record = SimpleNamespace(
        cell=SimpleNamespace(title=f"FastFlow, {title}", method_title="FastFlow", variant_of=method),
        selections={"last": SimpleNamespace(metrics={"image_auroc": auroc})},
        settings={"lr": lr, "schedule": "cosine", "drop_last": True},
    )
    return DrawnRun(cell, record, Path(), Path())


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def lines(axis):
    """Places, means, and the ends of the bars by label."""
    found = {}
    for container in axis.containers:
        line, _, (bars,) = container
        ends = [tuple(segment[:, 1].tolist()) for segment in bars.get_segments()]
        found[container.get_label()] = (line.get_xdata().tolist(), line.get_ydata().tolist(), ends)
    return found


def test_a_point_is_the_mean_over_seeds_and_a_bar_their_range():
    runs = [
        run("affine", lr, (90 + 10 * lr - 4 * seed + 2 * (category == "cable")) / 100, seed=seed, category=category)
        for lr in (0.1, 1.0)
        for seed in (0, 1, 2)
        for category in ("bottle", "cable")
    ]
    figure = SensitivityFigure().draw(runs)
    (axis,) = figure.axes
    places, means, bars = lines(axis)["affine"]
    assert places == [0.1, 1.0]
    assert means == pytest.approx([88, 97])
    assert [end for bar in bars for end in bar] == pytest.approx([84, 92, 93, 101])
    assert axis.get_xscale() == "log"
    assert axis.get_title() == "FastFlow, one-class\nresnet18@256"
    assert "mean over bottle, cable; mean and range of 3 seeds" in axis.get_xlabel()
    assert axis.get_ylabel() == "image AUROC in percent, last epoch"


def test_settings_are_rows_methods_are_columns_and_empty_panels_are_off():
    runs = [
        run("affine", 0.1, 0.9),
        run("additive", 0.1, 0.8),
        run("affine", 0.1, 0.7, setting="unified"),
        run("affine", 0.1, 0.6, method="uflow"),
    ]
    figure = SensitivityFigure().draw(runs)
    shown = [(axis.axison, {label: means for label, (_, means, _) in lines(axis).items()}) for axis in figure.axes[:4]]
    assert shown == [
        (True, {"affine": pytest.approx([90]), "additive": pytest.approx([80])}),
        (True, {"affine": pytest.approx([60])}),
        (True, {"affine": pytest.approx([70])}),
        (False, {}),
    ]
    colors = {axis.containers[0][0].get_color() for axis in figure.axes[:3]}
    assert len(colors) == 1, "a title has one color in all panels"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["affine", "additive"]


def test_values_at_or_below_zero_have_a_linear_axis():
    figure = SensitivityFigure().draw([run("affine", lr, 0.9) for lr in (0.0, 1.0)])
    assert figure.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("along", ["schedule", "drop_last", "gone"])
def test_a_setting_that_is_not_a_number_is_one_line(along):
    with pytest.raises(NfbenchError, match=f"needs a number as '{along}'"):
        SensitivityFigure(along=along).draw([run("affine", 0.1, 0.9)])


def test_undefined_metrics_are_left_out():
    with pytest.raises(NothingToDraw, match="needs runs with image AUROC"):
        SensitivityFigure().draw([run("affine", 0.1, math.nan)])
    figure = SensitivityFigure().draw([run("affine", 0.1, math.nan), run("affine", 1.0, 0.9)])
    assert lines(figure.axes[0])["affine"][0] == [1.0]
