"""Figures of representations draw the stored values and refuse methods without representations."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.patches import StepPatch

import nfbench.methods
from nfbench.config import load_bench
from nfbench.core.errors import NfbenchError
from nfbench.figures._base import COLORS, DrawnRun
from nfbench.figures.deviations import DeviationsFigure
from nfbench.figures.projections import ProjectionsFigure
from nfbench.results.artifacts import write_representations
from nfbench.results.representations import read_representations
from nfbench.scoring.representations import Representation
from tests.made_up import write_listing

GROUPS = ("normal", "anomalous", "learned")
EXPERIMENT = """
title: x
datasets: {{own: {{root: images}}}}
grid:
  - methods: [{method}]
    backbones: [{{name: tf_efficientnet_lite0, input_size: 64}}]
    datasets: {{own: available}}
figures: {{f: {{kind: {kind}}}}}
"""


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def made(names, levels, masks=True):
    rng = np.random.default_rng(0)
    groups = np.repeat(GROUPS, (20, 10, 5)) if masks else np.array([], str)
    for name in names:
        for level in range(levels):
            points = rng.normal(size=(len(groups), 2)).astype(np.float32)
            deviations = rng.gamma(2, 0.1, 50 + level).astype(np.float32)
            yield Representation(name, level, deviations, points, np.array([0.5, 0.25], np.float32), groups)


def run(folder, method, found, category="bottle", seed=0):
    folder = folder / f"{method}-{category}-{seed}"
    folder.mkdir()
    write_representations(folder, found)
    write_listing(folder / "run.json")
    cell = SimpleNamespace(
        setting="one-class", method=method, dataset="mvtec_ad", category=category, seed=seed, backbone="b6@256-l123"
    )
    return DrawnRun(cell, SimpleNamespace(cell=SimpleNamespace(title=method.upper())), folder, folder)


def test_what_is_written_is_read(tmp_path):
    found = list(made(["a name/of a step", "after"], 3))
    for one, kept in zip(found, read_representations(run(tmp_path, "nfad", found).folder), strict=True):
        assert (one.name, one.level) == (kept.name, kept.level)
        for value, same in zip(one[2:], kept[2:], strict=True):
            np.testing.assert_array_equal(value, same)


def test_deviations_are_counted_before_and_after(tmp_path):
    found = list(made(["before", "between", "after"], 2))
    runs = [run(tmp_path, "nfad", found), run(tmp_path, "padim", []), run(tmp_path, "nfad", found, seed=1)]
    figure = DeviationsFigure().draw(runs)
    assert figure.axes[0].get_title(loc="left") == "mvtec_ad bottle, NFAD on b6@256-l123"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["before", "after"]
    for level, axis in enumerate(figure.axes):
        pair = [one for one in found if one.level == level and one.name != "between"]
        patches = [patch for patch in axis.patches if isinstance(patch, StepPatch) and patch.get_fill()]
        for one, patch in zip(pair, patches, strict=True):
            counts, edges, _ = patch.get_data()
            assert counts.sum() == len(one.deviations)
            expected, _ = np.histogram(one.deviations, edges)
            np.testing.assert_array_equal(counts[:-1], expected[:-1])
        assert edges[-1] == pytest.approx(max(np.quantile(one.deviations, 0.995) for one in pair), rel=1e-6)


def test_points_have_the_colour_of_their_group(tmp_path):
    found = list(made(["features", "latents"], 2))
    few = list(made(["before", "after"], 1))
    figure = ProjectionsFigure().draw(
        [
            run(tmp_path, "nfad", found),
            run(tmp_path, "nfad", made(["features"], 2, masks=False), category="mono"),
            run(tmp_path, "simplenet", few),
        ]
    )
    panels = [axis for axis in figure.axes if axis.axison]
    assert len(panels) == 4 + 2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["normal", "anomalous", "anomalous, used for training"]
    for one, axis in zip([*found, *few], panels, strict=True):
        (dots,) = axis.collections
        colors = np.array([to_hex(color) for color in dots.get_facecolor()])
        points = one.points.clip(*np.quantile(one.points, (0.01, 0.99), axis=0))
        for group in GROUPS:
            drawn = sorted(dots.get_offsets()[colors == COLORS[group]].tolist())
            np.testing.assert_allclose(drawn, sorted(points[one.groups == group].tolist()), rtol=1e-6)
        assert "50 %" in axis.get_xlabel()


def test_nothing_to_draw_is_one_clear_error(tmp_path):
    for figure in (DeviationsFigure(), ProjectionsFigure()):
        with pytest.raises(NfbenchError, match=f"kind '{figure.kind}' needs a method with representations"):
            figure.draw([run(tmp_path, figure.kind, [])])
    with pytest.raises(NfbenchError, match="needs images with masks"):
        ProjectionsFigure().draw([run(tmp_path, "nfad", made(["features"], 1, masks=False))])


@pytest.mark.parametrize("kind", ["deviations", "projections", "segmentation"])
def test_an_experiment_without_a_method_for_it_is_refused_when_it_is_read(tmp_path, kind):
    (tmp_path / "own.yaml").write_text(EXPERIMENT.format(method="padim", kind=kind))
    with pytest.raises(
        NfbenchError, match=r"own.yaml: 'figures.f': none of its methods has .*; methods that have: .*hgad"
    ):
        load_bench({}, tmp_path)
    (tmp_path / "own.yaml").write_text(EXPERIMENT.format(method="bgad", kind=kind))
    load_bench({}, tmp_path)


def test_variances_of_an_experiment_without_a_method_that_predicts_them_are_refused(tmp_path):
    text = EXPERIMENT.replace("input_size: 64", "input_size: 64, image: true")
    (tmp_path / "own.yaml").write_text(text.format(method="nfad", kind="variances"))
    with pytest.raises(NfbenchError, match=r"none of its methods has predicted variances; methods that have: sanflow$"):
        load_bench({}, tmp_path)


def test_a_new_method_is_taken_by_its_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(nfbench.methods, "__path__", [*nfbench.methods.__path__, str(tmp_path / "methods")])
    (tmp_path / "methods").mkdir()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/own.yaml").write_text(EXPERIMENT.format(method="mine", kind="deviations"))
    text = "from nfbench.methods.padim import Padim as Base\n\nclass Mine(Base):\n    {}\n\nMETHOD = Mine\n"
    for body in ("def representations(self, features): ...", "title = 'Mine'"):
        (tmp_path / "methods/mine.py").write_text(text.format(body))
        if "def" in body:
            load_bench({}, tmp_path / "experiments")
        else:
            with pytest.raises(NfbenchError, match="none of its methods has representations"):
                load_bench({}, tmp_path / "experiments")
