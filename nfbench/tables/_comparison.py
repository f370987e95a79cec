"""Comparison of measured values with published ones for the same setting and data."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.metrics import SHARE, find_metric
from nfbench.reference import PublishedValue, find_printed, printed_rows, published_names, quoted_rows
from nfbench.results.compare import Comparison, compare
from nfbench.tables._model import PUBLISHED_ONLY, Row

if TYPE_CHECKING:
    import pandas as pd

    from nfbench.config.tables import ComparedTableConfig

__all__ = [
    "PublishedRow",
    "common_categories",
    "compare_runs",
    "file_fault",
    "metrics_faults",
    "of_setting",
    "printed_cell",
    "printed_settings",
    "quoted_only",
    "require_metrics",
    "row_faults",
    "shown_backbone",
    "unit_factor",
]


PublishedRow = Annotated[
    dict[str, str] | None,
    Field(description="row of the published table: values of its columns by name, such as {backbone: ResNet18}"),
]


def of_setting(name: str, setting: str | None, results: pd.DataFrame) -> pd.DataFrame:
    """Select the results of a table's setting; for searches over backbones, those of the best one.

    Args:
        name: name of the table.
        setting: the setting; None if the results have only one.
        results: aggregated results.

    Raises:
        NfbenchError: the results have several settings and the table names none, or they lack the one it names.
    """
    found = list(results.setting.unique())
    if setting is None and len(found) > 1:
        raise NfbenchError(
            f"table '{name}': its experiment has runs in the settings {', '.join(found)}, which are not comparable; "
            f"choose one, such as 'setting: {found[0]}'"
        )
    if setting is not None and setting not in found:
        raise NfbenchError(f"table '{name}': no run has its setting '{setting}'; found: {', '.join(found)}")
    shown = results.search_chosen if setting is None else results.search_chosen & (results.setting == setting)
    return results[shown]


def require_metrics(name: str, metrics: Iterable[str], results: pd.DataFrame) -> None:
    """Refuse a table whose runs lack one of its metrics.

    Raises:
        NfbenchError: names the table, the metric and the nearest known one.
    """
    for metric in metrics:
        if metric not in set(results.metric):
            raise NfbenchError(
                f"table '{name}': no run has the metric '{metric}'{nearest(metric, set(results.metric))}"
            )


def shown_backbone(results: pd.DataFrame) -> pd.Series:
    """Name of the shown backbone: the tag, or 'the best backbone' for searches, where it may differ by category."""
    return results.backbone.where(results.search == "", "the best backbone")


def printed_settings(results: pd.DataFrame) -> frozenset[str]:
    """Settings of results as published tables print them, with the number of real anomalies used for training."""
    found = results[["setting", "n_real"]].drop_duplicates()
    return frozenset(f"supervised-{r.n_real}" if r.setting == "few-anomaly" else r.setting for r in found.itertuples())


def common_categories(name: str, rows: Sequence[pd.DataFrame], results: pd.DataFrame) -> pd.DataFrame:
    """Select the categories that all rows of a table have, so that means cover the same ones.

    Args:
        name: name of the table.
        rows: results by row.
        results: results of all rows.

    Raises:
        NfbenchError: there is no such category.
    """
    pairs = (row[["dataset", "category"]].itertuples(index=False, name=None) for row in rows)
    common = set.intersection(*map(set, pairs))
    if not common:
        raise NfbenchError(f"table '{name}': the rows have no category in common")
    return results[[pair in common for pair in zip(results.dataset, results.category, strict=True)]]


def compare_runs(
    runs: pd.DataFrame,
    published: PublishedValue | None = None,
    tolerance: tuple[float, float] = (0, 0),
    *,
    comparable: bool = True,
) -> Comparison:
    """Average each seed's runs and compare the means with a published value; see ``compare``."""
    by_seed, factor = runs.groupby("seed").value.mean(), unit_factor(runs)
    return compare(by_seed, published, tolerance, factor=factor, comparable=comparable, runs=runs)


def unit_factor(runs: pd.DataFrame) -> float:
    """Factor of printed values of these runs' metric; see ``nfbench.metrics.Unit``."""
    return find_metric(runs.metric.iloc[0]).metric.unit.factor if len(runs) else SHARE.factor


def printed_cell(
    name: str, table: ComparedTableConfig, where: Mapping[str, str] | None, metric: str, results: pd.DataFrame
) -> PublishedValue | None:
    """Find the published value of a table row; None if none is requested or it lacks this metric.

    Args:
        name: name of the table.
        table: the table.
        where: values of columns that identify a row of its published table.
        metric: the metric; papers print metrics of transductive scores under the plain name.
        results: results of one dataset to compare the value with.

    Raises:
        NfbenchError: the row does not exist, has another setting than ``results``, or is not a percentage.
    """
    if table.published is None or where is None:
        return None
    where = table.published_row(where, results.dataset.iloc[0])
    printed = find_printed(table.published, where, find_metric(metric).printed_as)
    if printed and printed.setting and printed.setting not in printed_settings(results):
        found = ", ".join(sorted(printed_settings(results)))
        raise NfbenchError(
            f"table '{name}': the published value of {dict(where)} has the setting {printed.setting}, the runs have "
            f"{found}; remove 'published' from this row, or show runs of another setting"
        )
    return printed.in_percent() if printed else None


def quoted_only(
    table: ComparedTableConfig,
    dataset: str,
    metrics: Sequence[str],
    named: Sequence[Mapping[str, str] | None],
    rows: Iterable[Row],
    results: pd.DataFrame,
) -> list[Row]:
    """Build rows of published means of a dataset that no measured row is compared with, such as competitors.

    Args:
        table: the table.
        dataset: name of the dataset.
        metrics: metrics of the columns; empty for a column without published values.
        named: rows of the published table that the measured rows refer to.
        rows: rows of the table.
        results: results behind the rows.
    """
    wheres = [where for where in named if where is not None]
    of = {table.published_row(where, dataset).get("dataset") for where in wheres}
    if table.published is None or len(of) != 1:
        return []
    by = list(dict.fromkeys(column for where in wheres for column in where))
    shown = {cell for row in rows for found in row.cells if found.published for cell in found.published.cells}
    printed_as = [find_metric(metric).printed_as if metric else "" for metric in metrics]
    quoted = quoted_rows(table.published, printed_settings(results), of.pop(), by, shown)
    none = results.iloc[:0]
    return [
        Row(
            (dataset, f"{label}, {PUBLISHED_ONLY}"),
            tuple(
                Comparison(math.nan, math.nan, 0, values.get(metric), math.nan, PUBLISHED_ONLY, none)
                for metric in printed_as
            ),
        )
        for label, values in quoted.items()
        if set(values) & set(printed_as)
    ]


def metrics_faults(key: str, published: str | None, metrics: Collection[str]) -> Iterator[str]:
    """Yield faults of a published table: it does not exist, or has none of the metrics."""
    if published is None:
        return
    if fault := file_fault(published):
        yield f"'{key}.published': {fault}"
        return
    found = {row["metric"] for row in printed_rows(published)}
    if not found & {find_metric(metric).printed_as for metric in metrics}:
        yield f"'{key}.metrics': '{published}' has none of these metrics, only {', '.join(sorted(found))}"


def row_faults(key: str, published: str | None, where: Mapping[str, str]) -> Iterator[str]:
    """Yield columns that a published table does not have, and values that no row has."""
    if published is None:
        yield f"'{key}.published': the table needs 'published', the file that has this row"
        return
    if file_fault(published):
        return
    rows = printed_rows(published)
    for column, value in where.items():
        if column not in rows[0]:
            yield f"'{key}.published': '{published}' has no column '{column}'{nearest(column, rows[0])}"
            return
        values = {row[column] for row in rows}
        if value not in values:
            yield f"'{key}.published.{column}': '{published}' has no '{value}' in it{nearest(value, values - {''})}"
            return
    if not any(all(row[column] == value for column, value in where.items()) for row in rows):
        wanted = ", ".join(f"{column} '{value}'" for column, value in where.items())
        yield f"'{key}.published': '{published}' has no row with {wanted}"


def file_fault(published: str) -> str:
    """Return why a published table cannot be read; empty if it can."""
    names = [name for name in published_names() if "metric" in printed_rows(name)[0]]
    return "" if published in names else f"no published table '{published}'{nearest(published, names)}"
