"""The table of false alarms counts images of all categories together, seed by seed."""

import numpy as np
import pandas as pd
import pytest

from nfbench.tables.alarms import AlarmsTable
from tests.tables.making import make_table
from tests.tables.test_tables import results

ALARMED = {("bottle", 0): (1, 20), ("bottle", 1): (2, 20), ("carpet", 0): (0, 60), ("carpet", 1): (4, 60)}


def test_images_of_all_categories_count_alike():
    frame = results()
    alarmed, total = np.array([ALARMED[key] for key in zip(frame.category, frame.seed, strict=True)]).T
    frame = frame.assign(metric="alarmed_nfa", value=alarmed / total, n_test_normal=total)
    never = frame.assign(metric="alarmed_nfa_1e6", value=0.0)
    table = make_table(AlarmsTable(title="T"), pd.concat([frame, never]))
    (row,) = table.rows
    assert row.labels == ("mvtec_ad", "U-Flow <x>", "resnet18.tv_in1k@256")
    share, count, share_of_none, none = row.cells
    assert (count.text, none.text) == ("1, 6 of 80", "0, 0 of 80")
    assert share.mean == pytest.approx(100 * (1 + 6) / 2 / 80)
    assert share.std == pytest.approx(100 * np.std([1, 6], ddof=1) / 80)
    assert share_of_none.mean == 0
    assert "over the normal test images of all categories together" in table.caption


def test_a_category_without_normal_images_counts_nothing():
    frame = results()
    empty = frame.category == "carpet"
    frame = frame.assign(metric="alarmed_nfa", value=np.where(empty, np.nan, 0.25), n_test_normal=np.where(empty, 0, 8))
    share, count = make_table(AlarmsTable(title="T", metrics=("alarmed_nfa",)), frame).rows[0].cells
    assert (share.mean, count.text) == (25.0, "2, 2 of 8")
