"""Every experiment is built from made-up runs over all official categories, so that none fails after its trainings.

Figures are drawn of the first seed in a few categories that together have all methods on all backbones.
"""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nfbench.config import load_bench, metrics_in
from nfbench.figures._base import by_category
from nfbench.plan.catalogue import Catalogue
from nfbench.report.data import ReportSource, collect
from nfbench.report.gallery import gallery
from nfbench.report.page import render_page
from nfbench.results.aggregate import aggregate
from nfbench.results.compare import Comparison
from nfbench.results.ledger import Account, Stock
from nfbench.tables._model import Source
from nfbench.tables._render import to_csv, to_html, to_latex
from tests.official import Official
from tests.tables.making import own_rows

EXPERIMENTS = Path(__file__).parents[1] / "workflow" / "experiments"
NAMES = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml") if path.stem != "own_images")  # of official datasets
DRAWN = ("image_auroc", "pixel_auroc", "miou_oracle", "miou_fair", "miou_nfa_oracle", "miou_nfa")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return Official(tmp_path_factory.mktemp("official"), load_bench({"seeds": 2}, EXPERIMENTS))


@pytest.fixture(autouse=True)
def not_arranged(monkeypatch):
    """Arranging takes a quarter of the time; tests/conformance/test_figure_kinds.py arranges each kind."""
    monkeypatch.setattr(Figure, "tight_layout", lambda figure, **options: None)


@pytest.fixture(scope="module")
def notes(official):
    return Catalogue(official.bench).notes


def with_all_columns(runs):
    """The runs of a few categories that have all methods on all backbones of each dataset."""
    wanted, kept = {(run.cell.dataset, run.column) for run in runs}, []
    for (dataset, _), of_category in by_category(runs).items():
        found = {(dataset, run.column) for run in of_category} & wanted
        kept += of_category if found else []
        wanted -= found
    return kept


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_tables_figures_and_the_report_are_made(official, notes, name):
    experiment = official.bench.experiment(name)
    metrics = {"image_auroc", *metrics_in([*experiment.tables.values()]), *(DRAWN if experiment.figures else ())}
    runs = official.runs(name, metrics) if experiment.grid else []
    results = aggregate(run.record for run in runs) if runs else None
    tables = []
    for key, config in experiment.tables.items():
        variants = {method: official.bench.variant(method) for method, _ in config.built}
        table = config.make(key, Source(results, notes, variants))
        tables.append(table)
        rows = [[cell for cell in row.cells if isinstance(cell, Comparison)] for row in own_rows(table)]
        for group in filter(None, (*rows, *zip(*rows, strict=True))):
            assert not all(np.isnan(cell.mean) for cell in group), f"{key}: a row or column without values"
        assert all(render(table) for render in (to_csv, to_html, to_latex))
    for key, figure in experiment.figures.items():
        shown = [run for run in runs if figure.setting in (None, run.cell.setting) and not run.cell.seed]
        drawn = figure.draw(with_all_columns(shown))
        assert any(axis.has_data() for axis in drawn.findobj(Axes)), f"{key}: nothing is drawn"
        plt.close(drawn)
    if runs:
        done = Stock(tuple(Account(run.cell, "done") for run in runs), {run.cell: run.record for run in runs})
        source = ReportSource(name, experiment.title, done, results, tables, [], {}, official.paths)
        assert render_page({**collect(source), "gallery": gallery(done.records, official.paths, 1)})
