"""Tables of synthetic results."""

from collections.abc import Mapping

import pandas as pd

from nfbench.config import TableConfig
from nfbench.plan.experiment_specs import DatasetNote
from nfbench.tables._model import PUBLISHED_ONLY, Row, Source, Table


def make_table(config: TableConfig, results: pd.DataFrame, notes: Mapping[str, DatasetNote] | None = None) -> Table:
    return config.make("t", Source(results, notes or {}))


def others(table: Table) -> list[str]:
    """Published methods that were not measured."""
    return [column.title for column in table.columns if column.is_text]


def own_rows(table: Table) -> list[Row]:
    """Rows of runs; below them are those of published values alone."""
    return [row for row in table.rows if not row.label.endswith(f", {PUBLISHED_ONLY}")]
