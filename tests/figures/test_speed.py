"""The figure of speed: positions of points, texts of labels, and no overlaps."""

from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Annotation, Text

from nfbench.core.errors import NfbenchError
from nfbench.figures._base import DrawnRun, write_figure
from nfbench.figures.speed import SpeedFigure

CPU = {"cpu": "Some CPU", "gpu": None, "cpu_threads": 16, "device": "cpu"}
METHODS = (
    ("fastflow", "FastFlow", 30, 45, 0.985),
    ("cflow", "CFLOW-AD", 29, 44, 0.983),
    ("csflow", "CS-Flow", 30, 46, 0.984),
    ("uflow", "U-Flow", 2, 60, 0.989),
    ("patchcore", "PatchCore", 30, 9, 0.991),
    ("padim", "PaDiM", 30, 40, 0.953),
    ("simplenet", "SimpleNet", 28, 400, 0.996),
    ("differnet", "DifferNet", 1, 50, 0.949),
    ("whitened", "FastFlow (whitened)", 90, 120, 0.988),
)


def run(
    method,
    title,
    extract,
    score,
    auroc,
    *,
    category="bottle",
    seed=0,
    backbone="resnet18@256",
    weights="x",
    ms=None,
    **machine,
):
    cell = SimpleNamespace(method=method, dataset="mvtec_ad", category=category, seed=seed, backbone=backbone)
    record = SimpleNamespace(
        cell=SimpleNamespace(title=title),
        selections={"last": SimpleNamespace(metrics={"image_auroc": auroc})},
        features=SimpleNamespace(recipe=SimpleNamespace(weights=weights)),
        images_per_second={"extract": extract, "score": score, "train": 3},
        latency=None if ms is None else SimpleNamespace(ms=ms),
        provenance={
            "extract": {**CPU, "threads": 8, **machine},
            "score": {**CPU, "threads": 1, **machine},
        },
    )
    return DrawnRun(cell, record, Path(), Path())


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def labels(figure):
    return {child.get_text(): child for child in figure.axes[0].get_children() if isinstance(child, Annotation)}


def test_points_are_means_of_both_stages_together():
    runs = [run("fastflow", "FastFlow", 10, 40, 0.9, seed=seed) for seed in (0, 1)]
    runs += [run("fastflow", "FastFlow", 40, 20, 0.7 + 0.1 * seed, category="screw", seed=seed) for seed in (0, 1)]
    figure = SpeedFigure().draw(runs)
    speed, auroc = labels(figure)["FastFlow"].xy
    assert speed == pytest.approx(10)  # 0.125 and 0.075 seconds per image
    assert auroc == pytest.approx(100 * np.mean([0.9, 0.9, 0.7, 0.8]))
    (bar,) = figure.axes[0].containers[0].lines[2]
    low, high = bar.get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(np.std([80, 85], ddof=1))
    assert figure.axes[0].get_xscale() == "log"
    assert "standard deviation over 2 seeds" in figure.axes[0].get_ylabel()
    assert "mean over bottle, screw" in figure.axes[0].get_ylabel()


def test_labels_cover_neither_points_nor_each_other(tmp_path):
    rng = np.random.default_rng(0)
    runs = [
        run(name, title, extract, score, auroc + 0.002 * rng.normal(), seed=seed)
        for name, title, extract, score, auroc in METHODS
        for seed in range(3)
    ]
    figure = SpeedFigure().draw(runs)
    figure.canvas.draw()
    found = labels(figure)
    assert set(found) == {title for _, title, *_ in METHODS}
    boxes = [Text.get_window_extent(text) for text in found.values()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    axis = figure.axes[0]
    assert all(axis.bbox.contains(*corner) for box in boxes for corner in box.corners())
    points = axis.transData.transform([text.xy for text in found.values()])
    assert not any(box.contains(*point) for box in boxes for point in points)
    write_figure(figure, [tmp_path / "speed.png", tmp_path / "speed.pdf"])
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_markers_tell_methods_apart_without_color():
    figure = SpeedFigure().draw([run(name, title, *values) for name, title, *values in METHODS])
    lines = [container.lines[0] for container in figure.axes[0].containers]
    assert len({line.get_marker() for line in lines}) == len(METHODS)
    assert "one seed" in figure.axes[0].get_ylabel()


def test_no_label_is_lost_where_there_is_no_room():
    titles = [f"a long name of a method, number {number}, " * 2 for number in range(30)]
    runs = [run(title, title, 10, 10, 0.9) for title in titles]
    assert set(labels(SpeedFigure().draw(runs))) == set(titles)


def test_only_categories_that_all_methods_have_count():
    runs = [
        run("a", "A", 10, 10, 0.9),
        run("a", "A", 1, 1, 0.5, category="screw"),
        run("b", "B", 10, 10, 0.8),
    ]
    assert labels(SpeedFigure().draw(runs))["A"].xy == pytest.approx((5, 90))
    with pytest.raises(NfbenchError, match="needs a category that all methods have"):
        SpeedFigure().draw(runs[1:])


def test_one_backbone_at_several_sizes_is_one_point_and_two_backbones_are_two():
    sizes = [
        run("c", "C", 10, 10, 0.9, backbone="wide@512-l23"),
        run("c", "C", 30, 30, 0.8, category="screw", backbone="wide@128"),
    ]
    assert labels(SpeedFigure().draw(sizes))["C"].xy == pytest.approx((1 / np.mean([1 / 5, 1 / 15]), 85))
    others = [run("c", "C", 10, 10, 0.9, backbone=backbone) for backbone in ("wide@512", "wide@128", "resnet18@256")]
    assert set(labels(SpeedFigure().draw(others))) == {"C, wide@512", "C, wide@128", "C, resnet18"}


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({}, ["features: CPU Some CPU, 8 threads", "scores: CPU Some CPU, 1 thread"]),
        ({"gpu": "Some GPU", "device": "cuda"}, ["features: GPU Some GPU", "scores: GPU Some GPU"]),
        ({"gpu": "Some GPU", "threads": None}, ["features: CPU Some CPU, 16 threads"]),
    ],
)
def test_axis_says_what_was_timed_on_which_machine(machine, words):
    shown = SpeedFigure().draw([run("a", "A", 10, 10, 0.9, **machine)]).axes[0].get_xlabel()
    assert shown.startswith("images per second, extraction of features and scoring together\n")
    assert shown.splitlines()[1 : 1 + len(words)] == words


def test_random_weights_are_told():
    runs = [run("a", "A", 10, 10, 0.9), run("b", "B", 10, 10, 0.8, weights="random")]
    assert SpeedFigure().draw(runs).axes[0].get_xlabel().endswith("\nRANDOM weights, for tests only")
    assert "RANDOM" not in SpeedFigure().draw(runs[:1]).axes[0].get_xlabel()


def test_several_machines_are_all_named():
    runs = [run("a", "A", 10, 10, 0.9), run("b", "B", 10, 10, 0.8, cpu="Other CPU")]
    assert "CPU Some CPU, 8 threads; CPU Other CPU, 8 threads" in SpeedFigure().draw(runs).axes[0].get_xlabel()


def test_by_latency_points_are_single_images():
    runs = [run("fastflow", "FastFlow", 10, 40, 0.9, ms=ms, seed=seed) for seed, ms in enumerate((40.0, 60.0))]
    figure = SpeedFigure(by="latency").draw(runs)
    assert labels(figure)["FastFlow"].xy[0] == pytest.approx(20)
    assert "one at a time" in figure.axes[0].get_xlabel()
    assert SpeedFigure(by="latency").shows_latency
    assert not SpeedFigure().shows_latency
    with pytest.raises(NfbenchError, match=r"the latency of a run was not measured.*delete its run\.json"):
        SpeedFigure(by="latency").draw([*runs, run("uflow", "U-Flow", 10, 40, 0.9)])
