"""The table of a dataset's statistics: counts of its runs, next to the published ones."""

import numpy as np
import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.tables.statistics import StatisticsTable
from tests.tables.making import make_table
from tests.tables.test_tables import results

TABLE = StatisticsTable(title="T", dataset="mvtec_ad", published="mvtec_statistics")
BOTTLE = {"n_train": 189, "n_val": 20, "n_test": 83, "n_test_normal": 20, "n_defects": 3, "n_regions": 68}
CARPET = {"n_train": 280, "n_val": 0, "n_test": 117, "n_test_normal": 28, "n_defects": 5, "n_regions": 99}


def frame():
    found = results()
    for category, counts in {"bottle": BOTTLE, "carpet": CARPET}.items():
        found.loc[found.category == category, [*counts]] = [*counts.values()]
    return found


def texts(table):
    return {row.label: [cell.text for cell in row.cells] for row in table.rows}


def test_counts_stand_alone_where_they_are_the_published_ones():
    table = make_table(TABLE, frame())
    assert texts(table) == {
        "bottle": ["209", "20", "63", "3", "68", "900"],
        "carpet": ["280", "28", "89", "5", "99 (97)", "900 (1024)"],
        "total": ["489 (3629)", "48 (467)", "152 (1258)", "8 (73)", "167 (1888)", "–"],
    }
    assert "In brackets, counts of SANFlow slides" in table.caption
    assert [cell.style for cell in table.rows[1].cells] == ["reproduced"] * 4 + ["off"] * 2


def test_the_run_that_left_out_the_fewest_images_is_taken():
    whole = frame()
    few = whole.assign(method="bgad", n_real=10, n_test=whole.n_test - 10)
    several = whole.assign(method="hgad", n_classes=15, n_train=3000)
    assert texts(make_table(TABLE, pd.concat([few, several, whole]))) == texts(make_table(TABLE, whole))
    with pytest.raises(NfbenchError, match="no run has a single category of 'mvtec_ad'"):
        make_table(TABLE, several)


def test_what_was_not_counted_is_a_dash():
    table = make_table(StatisticsTable(title="T", dataset="mvtec_ad"), frame().assign(n_regions=np.nan))
    assert {row[4] for row in texts(table).values()} == {"–"}
    assert "brackets" not in table.caption
