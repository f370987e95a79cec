"""Tables of settings: both settings and their difference by seed, on the categories that all have."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.tables._render import to_csv, to_html, to_latex
from nfbench.tables.settings import SettingsTable
from tests.tables.making import make_table
from tests.tables.test_tables import results

CONFIG = SettingsTable(title="Both", metrics=("pixel_auroc",))


def runs():
    """Unified is 2 points worse with the first seed, 4 with the second."""
    one_class = results(methods=(("a", "Method A", "A"),)).assign(setting="one-class", n_classes=1)
    unified = one_class.assign(setting="unified", n_classes=2)
    unified.value = unified.value - np.where(unified.seed == 0, 0.02, 0.04)
    return pd.concat([one_class, unified])


def test_settings_stand_side_by_side_with_their_difference():
    table = make_table(CONFIG, runs())
    assert [column.backbone for column in table.columns] == ["one-class", "unified", "difference"]
    (row,) = table.rows
    one_class, unified, difference = row.cells
    assert unified.mean == pytest.approx(one_class.mean - 3)
    assert difference.mean == pytest.approx(-3)
    assert difference.std == pytest.approx(np.std([-2, -4], ddof=1))
    assert "unified: one for all" in table.caption


def test_caption_says_that_settings_were_searched_on_the_test_set():
    searched = runs().assign(search="test", search_metric="pixel_auroc", search_trials=30)
    caption = make_table(CONFIG, searched).caption
    assert "Settings of Method A searched per category with 30 trials, judged by pixel AUROC ON THE TEST SET" in caption


def test_a_category_that_one_setting_lacks_is_left_out():
    found = runs()
    found = found[~((found.setting == "unified") & (found.category == "carpet"))]
    table = make_table(CONFIG, found)
    assert "(bottle)" in table.caption
    assert table.rows[0].cells[2].mean == pytest.approx(-3)


def test_it_is_written_in_all_forms():
    table = make_table(CONFIG, runs())
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["setting"] for row in rows] == ["one-class", "unified", "difference"]
    assert "difference" in to_html(table)
    assert "unified" in to_latex(table)


def test_a_method_of_one_setting_is_named():
    alone = results(methods=(("b", "Method B", "B"),)).assign(setting="one-class", n_classes=1)
    with pytest.raises(NfbenchError, match="'b' has no runs in the setting unified"):
        make_table(CONFIG, pd.concat([runs(), alone]))
