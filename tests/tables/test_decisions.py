"""The table of decisions has a row for each rule that a method has."""

import csv
import io

import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.tables._render import to_csv
from nfbench.tables.decisions import DecisionsTable
from tests.tables.making import make_table
from tests.tables.test_tables import results

RATES = {
    "image_false_alarm_rate": 0.05, "image_miss_rate": 0.25, "image_false_alarm_rate_sigma": 0.0,
    "image_miss_rate_sigma": 0.5, "image_false_alarm_rate_oracle": 0.1, "image_miss_rate_oracle": 0.0,
}  # fmt: skip


def measured(values):
    frame = results()
    return pd.concat([frame.assign(metric=metric, value=value) for metric, value in values.items()])


def test_rules_are_rows_and_rates_columns():
    table = make_table(DecisionsTable(title="T"), measured(RATES))
    assert [column.title for column in table.columns] == [
        "false-alarm rate of images in percent",
        "miss rate of images in percent",
    ]
    found = {row.labels[-1]: [cell.mean for cell in row.cells] for row in table.rows}
    assert found == {
        "conformal, 5 %": pytest.approx([5, 25]),
        "mean + 3 standard deviations": pytest.approx([0, 50]),
        "best F1 on the test set (optimistic)": pytest.approx([10, 0]),
    }
    written = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert {(row["method"], row["threshold"], row["metric"]) for row in written} == {
        ("U-Flow <x>", rule, metric) for rule in found for metric in ("image_false_alarm_rate", "image_miss_rate")
    }
    assert "promises at most 5 % false alarms" in table.caption
    assert "hreshold from normal images held out from training" in table.caption


def test_runs_without_rates_are_named():
    with pytest.raises(NfbenchError, match="no run has the metric 'image_false_alarm_rate'"):
        make_table(DecisionsTable(title="T"), results())
