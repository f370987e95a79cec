"""The figure of likelihoods: a panel for each moment and level of each run that has a histogram."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

from nfbench.core.errors import NfbenchError
from nfbench.figures._base import COLORS, DrawnRun, write_figure
from nfbench.figures.likelihoods import LikelihoodsFigure
from nfbench.results.files import Bin
from tests.made_up import write_known

CENTRES = {
    "before": {"normal": -9.0, "pseudo": -9.6, "anomalous": -10.0},
    "after": {"normal": 1.2, "pseudo": -0.8, "anomalous": -1.6},
}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def histograms(groups, levels=3):
    """Normal laws that training pulls apart, more so on coarse levels; empty bins are left out."""
    rng = np.random.default_rng(0)
    for moment, centres in CENTRES.items():
        for level in range(levels):
            values = {group: rng.normal(centres[group] * (1 + 0.3 * level), 0.8, 5000) for group in groups}
            edges = np.histogram_bin_edges(np.concatenate([*values.values()]), 40)
            for group, found in values.items():
                shares = np.histogram(found, edges)[0] / len(found)
                for left, right, share in zip(edges, edges[1:], shares, strict=False):
                    if share:
                        yield moment, level, group, left, right, share


def run(folder, method="bgad-10", category="bottle", seed=0, **options):
    folder = folder / f"{method}-{category}-{seed}"
    folder.mkdir()
    write_known(Bin, folder, histograms(**options) if options else [])
    cell = SimpleNamespace(
        setting="one-class", method=method, dataset="mvtec_ad", category=category, seed=seed, backbone="b6@256-l123"
    )
    return DrawnRun(cell, SimpleNamespace(cell=SimpleNamespace(title=method.upper())), folder, folder)


def panels(figure):
    return [axis for axis in figure.axes if axis.axison]


def colors(axis):
    return {
        to_hex(patch.get_facecolor()) for patch in axis.patches if isinstance(patch, StepPatch) and patch.get_fill()
    }


def test_each_run_has_panels_by_moment_and_level(tmp_path):
    runs = [
        run(tmp_path, groups=("normal", "anomalous", "pseudo")),
        run(tmp_path, method="nfad", groups=("normal", "anomalous"), levels=2),
        run(tmp_path, method="padim"),
        run(tmp_path, seed=1, groups=("normal",)),
        run(tmp_path, category="screw", groups=("normal", "anomalous", "pseudo")),
    ]
    figure = LikelihoodsFigure().draw(runs)
    assert len(panels(figure)) == 2 * (3 + 2 + 3)
    assert [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")] == [
        "mvtec_ad bottle, BGAD-10 on b6@256-l123",
        "mvtec_ad bottle, NFAD on b6@256-l123",
        "mvtec_ad screw, BGAD-10 on b6@256-l123",
    ]
    first, second = figure.axes[0], figure.axes[3]
    assert first.get_ylabel().startswith("before training")
    assert second.get_ylabel().startswith("after training")
    assert [axis.texts[0].get_text() for axis in figure.axes[:3]] == [
        "level 1 of 3, finest", "level 2 of 3", "level 3 of 3, coarsest",
    ]  # fmt: skip
    assert sum("nats per dimension" in axis.get_xlabel() for axis in panels(figure)) == 3 + 2 + 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["normal", "anomalous", "pseudo-anomalous"]
    write_figure(figure, [tmp_path / "likelihoods.png", tmp_path / "likelihoods.pdf"])
    assert (tmp_path / "likelihoods.png").stat().st_size > 10_000


def test_groups_have_the_house_colours_and_keep_their_shares(tmp_path):
    (axis, *_) = LikelihoodsFigure().draw([run(tmp_path, groups=("normal", "anomalous"), levels=1)]).axes
    assert colors(axis) == {COLORS["normal"], COLORS["anomalous"]}
    for patch in axis.patches:
        values, edges, _ = patch.get_data()
        assert sum(values) == pytest.approx(1)
        assert edges[0] < -9 < edges[-1] + 1


def test_bins_that_are_left_out_are_empty(tmp_path):
    made = run(tmp_path)
    rows = [("after", 0, "normal", -2.0, -1.0, 0.25), ("after", 0, "normal", 0.0, 1.0, 0.75)]
    write_known(Bin, made.folder, rows)
    (axis,) = panels(LikelihoodsFigure().draw([made]))
    values, edges, _ = axis.patches[0].get_data()
    assert list(values) == [0.25, 0, 0.75]
    assert list(edges) == [-2, -1, 0, 1]


def test_runs_without_likelihoods_are_an_error_that_says_who_has_them(tmp_path):
    with pytest.raises(NfbenchError, match=r"kind 'likelihoods' needs a method .*likelihoods\.csv.*: sanflow, nfad or"):
        LikelihoodsFigure().draw([run(tmp_path)])
