"""The figure of homogeneous mapping: both settings in each panel, and how much their histograms overlap."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from nfbench.core.errors import NfbenchError
from nfbench.figures._base import DrawnRun, write_figure
from nfbench.figures.homogeneous_mapping import HomogeneousMappingFigure
from nfbench.results.files import Bin, Epoch
from tests.made_up import write_known

EDGES = np.linspace(-4, 4, 9)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def run(folder, setting, category, method="cflow", shift=0, masks=True):
    """All normal positions in one bin, all anomalous ones ``shift`` bins below."""
    run_folder, training = folder / setting / method / category, folder / setting / method / "all"
    training = training if setting == "unified" else run_folder
    rows = [
        (moment, level, group, left, right, float(number == place))
        for moment in ("before", "after")
        for level in range(3)
        for group, place in (("normal", 5), ("anomalous", 5 - shift))
        for number, (left, right) in enumerate(pairwise(EDGES))
    ]
    write_known(Bin, run_folder, rows if masks else [])
    write_known(Epoch, training, [(1, 3.0, None, 0.1, 1.0), (2, 2.0, None, 0.1, 1.0)])
    cell = SimpleNamespace(
        setting=setting, dataset="mvtec_ad", category=category, method=method, backbone="b@256", seed=0
    )
    record = SimpleNamespace(cell=SimpleNamespace(title=method.upper()))
    return DrawnRun(cell, record, run_folder, training)


def test_overlaps_and_losses_of_both_settings(tmp_path):
    runs = [run(tmp_path, "one-class", category, shift=2) for category in ("bottle", "screw")]
    runs += [run(tmp_path, "unified", category, shift=0) for category in ("bottle", "screw")]
    runs += [run(tmp_path, setting, "bottle", method="uflow", masks=False) for setting in ("one-class", "unified")]
    figure = HomogeneousMappingFigure().draw(runs)
    assert len(figure.axes) == 3
    for panel in figure.axes[:2]:
        assert [text.get_text() for text in panel.texts] == ["one-class, overlap 0.00", "unified, overlap 1.00"]
        assert panel.get_ylim()[0] == -panel.get_ylim()[1]
    assert len(figure.axes[2].lines) == 3  # two models of one category, one of both
    write_figure(figure, [tmp_path / "f.png"])
    assert (tmp_path / "f.png").stat().st_size > 10_000


def test_one_setting_is_not_enough(tmp_path):
    with pytest.raises(NfbenchError, match="in the settings one-class and unified"):
        HomogeneousMappingFigure().draw([run(tmp_path, "one-class", "bottle")])
