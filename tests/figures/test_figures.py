"""Grids of panels: missing runs leave empty panels, and a figure without data has a note."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib import pyplot as plt
from PIL import Image

from nfbench.config import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.figures._base import DrawnRun, new_figure, write_figure
from nfbench.results.files import Epoch, ImageScore, MeanIou, Quantile
from tests.made_up import write_known


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("segmentation", "needs a method with standard normal latents"),
        ("calibration", "needs a method with standard normal latents"),
        ("thresholds", "needs images with masks"),
    ],
)
def test_nothing_to_draw_is_one_clear_error(tmp_path: Path, kind, message):
    for rows in (MeanIou, Quantile):
        write_known(rows, tmp_path, [])
    record = SimpleNamespace(segmentation=SimpleNamespace(false_alarms={"fair": None}))
    run = DrawnRun(SimpleNamespace(seed=0), record, tmp_path, tmp_path)
    with pytest.raises(NfbenchError, match=f"kind '{kind}' {message}"):
        FigureConfig.of_kind(kind)().draw([run])


def drawn_run(folder: Path, method: str, category: str, setting: str = "one-class") -> DrawnRun:
    folder = folder / setting / method / category
    folder.mkdir(parents=True)
    write_known(Epoch, folder, [(1, 3.0, -1.5, 0.1, 1.0), (2, 2.0, -1.2, 0.1, 1.0)])
    write_known(ImageScore, folder, [(f"{i}.png", i % 2, "x", *[float(i)] * 4) for i in range(6)])
    write_known(MeanIou, folder, [(name, 1.0 * x, 0.2, 0.3, 0.4) for name in ("score", "nfa") for x in range(-2, 3)])
    write_known(
        Quantile, folder, [(images, 0, 4, p, p, 1.1 * p) for images in ("training", "test") for p in (0.1, 0.5, 0.9)]
    )
    metrics = dict.fromkeys(
        ("image_auroc", "pixel_auroc", "miou_oracle", "miou_fair", "miou_nfa_oracle", "miou_nfa"), 0.5
    )
    record = SimpleNamespace(
        cell=SimpleNamespace(title=method.upper()),
        selections={"last": SimpleNamespace(metrics=metrics)},
        by_epoch={2: metrics},
        segmentation=SimpleNamespace(
            thresholds={"miou_oracle": 1.0, "miou_nfa_oracle": -1.0, "fair": 0.5},
            threshold_images=SimpleNamespace(source="cross-fitted"),
        ),
    )
    cell = SimpleNamespace(
        setting=setting, dataset="mvtec_ad", category=category, method=method, backbone="b@256", seed=0
    )
    return DrawnRun(cell, record, folder, folder)


@pytest.mark.parametrize(
    ("kind", "columns", "lines"),
    [("curves", 2, {3.0, 2.0}), ("calibration", 2, {0.1, 0.5, 0.9}), ("thresholds", 4, {0.2}), ("histograms", 2, None)],
)
def test_a_run_that_is_missing_leaves_its_panel_empty(tmp_path, kind, columns, lines):
    there = [("uflow", "bottle"), ("fastflow", "bottle"), ("fastflow", "carpet")]
    runs = [drawn_run(tmp_path, method, category) for method, category in there]
    figure = FigureConfig.of_kind(kind)().draw(runs)
    panels = [axis for axis in figure.axes if axis.get_ylabel() != "AUROC in percent"][: 2 * columns]
    empty = [place for place, axis in enumerate(panels) if not axis.axison]
    assert empty == list(range(columns, columns + columns // 2))
    titles = ["UFLOW\nb@256", "FASTFLOW\nb@256"]
    assert [axis.get_title() for axis in panels[:columns]] == [t for t in titles for _ in range(columns // 2)]
    assert panels[columns].get_ylabel().startswith("mvtec_ad\ncarpet\n")
    last = panels[2 * columns - 1]
    if lines:
        assert any(lines <= {*line.get_xdata(), *line.get_ydata()} for line in last.get_lines())
    else:
        assert last.patches
    assert len(figure.legends) == 1
    plt.close("all")


def test_settings_have_columns_of_their_own(tmp_path):
    runs = [drawn_run(tmp_path, "uflow", "bottle", setting) for setting in ("one-class", "unified")]
    figure = FigureConfig.of_kind("calibration")().draw(runs)
    assert [axis.get_title() for axis in figure.axes] == ["UFLOW\nb@256\none-class", "UFLOW\nb@256\nunified"]
    plt.close("all")


def test_a_figure_that_is_too_long_is_written_at_a_lower_resolution(tmp_path):
    figure = new_figure(0.2, 700)
    figure.add_axes((0, 0, 1, 1))
    write_figure(figure, [tmp_path / "f.png"])
    assert 50_000 < Image.open(tmp_path / "f.png").height < 2**16
