"""Tables of methods: metrics are means over categories, costs stand in their units, and the caption says on what."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from nfbench.tables.methods import COSTS, MethodsTable
from tests.tables.making import make_table
from tests.tables.test_tables import results

RUN_COSTS = ("parameters", "train_seconds", "score_images_per_second", "peak_memory_mb")
CONFIG = MethodsTable(title="All", metrics=("pixel_auroc",), costs=RUN_COSTS)


def runs():
    """Two methods; the second is a point worse, ten times as slow, and takes more memory on one category."""
    first = results(methods=(("a", "Method A", "A"),)).assign(machine="CPU x, 1 thread", score_images_per_second=50.0)
    first = first.assign(parameters=2_500_000, train_seconds=60.0, peak_memory_mb=1000.0)
    second = first.assign(method="b", title="Method B", backbone="b@64", value=first.value - 0.01, train_seconds=600.0)
    second.loc[second.category == "carpet", "peak_memory_mb"] = 3000.0
    return pd.concat([first, second])


def test_rows_are_methods_and_cells_means_over_categories():
    table = make_table(CONFIG, runs())
    assert [row.label for row in table.rows] == ["Method A", "Method B"]
    a, b = (row.cells for row in table.rows)
    assert a[0].mean == pytest.approx(np.mean([98, 99, 88, 89]))
    assert a[0].std == pytest.approx(np.std([93, 94], ddof=1))
    assert b[0].mean == pytest.approx(a[0].mean - 1)


def test_costs_have_units_and_memory_is_the_largest():
    table = make_table(CONFIG, runs())
    assert [column.title for column in table.columns[1:]] == [COSTS[cost][0] for cost in RUN_COSTS]
    assert [cell.mean for cell in table.rows[0].cells[1:]] == pytest.approx([2.5, 60, 50, 1])
    assert [cell.mean for cell in table.rows[1].cells[1:]] == pytest.approx([2.5, 600, 50, 3])


def test_latency_is_shown_where_it_was_measured():
    config = MethodsTable(title="All", metrics=("pixel_auroc",), costs=("latency_ms", "flops", "fps_32"))
    found = runs().assign(latency_ms=40.0, flops=2.5e9, fps_32=np.nan)
    found.loc[found.method == "b", ["latency_ms", "flops"]] = np.nan
    table = make_table(config, found)
    assert [cell.mean for cell in table.rows[0].cells[1:3]] == [40, 2.5]
    assert to_text(table).count("–") >= 4  # one batch of a, and all of b
    assert "times per image are from the file to the map" in table.caption.lower()
    assert config.shows_latency
    assert not CONFIG.shows_latency


def test_a_search_is_shown_by_its_best_backbone_with_its_budget():
    searched = runs().assign(search="test", search_metric="pixel_auroc", search_trials=30, search_pruned=7)
    searched = searched[searched.method == searched.method.iloc[0]].assign(n_validation=0, search_chosen=True)
    other = searched.assign(backbone="other@64", value=0.1, search_chosen=False)
    changing = pd.concat([searched, other])
    carpet = changing.category == "carpet"
    changing.loc[carpet, "search_chosen"] = ~changing[carpet].search_chosen
    config = MethodsTable(title="All", metrics=("pixel_auroc",), costs=("search_trials", "search_pruned"))
    table = make_table(config, changing)
    (row,) = table.rows
    best = searched[(searched.category == "bottle") & (searched.selection == "last")]
    assert row.cells[0].mean == pytest.approx(50 * (best.value.mean() + 0.1))
    assert [cell.mean for cell in row.cells[1:]] == [30, 7]
    assert "the best backbone" in row.label
    assert "30 trials, judged by pixel AUROC ON THE TEST SET ITSELF (optimistic)" in table.caption


def test_caption_says_what_was_measured_on_what():
    caption = make_table(CONFIG, runs()).caption
    assert "2 of 15 categories (bottle, carpet)" in caption
    assert "Method A on resnet18.tv_in1k@256; Method B on b@64" in caption
    assert "Measured on CPU x, 1 thread" in caption
    assert "RANDOM" not in caption
    assert "RANDOM weights" in make_table(CONFIG, runs().assign(weights="random")).caption


def test_it_is_written_in_all_forms():
    table = make_table(CONFIG, runs())
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 2 * 5
    assert rows[1]["method"] == "Method A"
    assert float(rows[1]["mean"]) == 2.5
    assert "Method B" in to_html(table)
    assert "Method B" in to_latex(table)
    assert "600.00" in to_text(table)


def test_unknown_metric_is_named():
    with pytest.raises(
        NfbenchError, match=r"table 't': no run has the metric 'pixel_aurc'; did you mean 'pixel_auroc'"
    ):
        make_table(CONFIG.model_copy(update={"metrics": ("pixel_aurc",)}), runs())
