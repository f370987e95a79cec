"""Faults of what tables ask of published tables, known before anything runs."""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from pydantic import Field

from nfbench.config.metrics import plain_metric
from nfbench.core.registry import nearest
from nfbench.reference import printed_rows, published_names

__all__ = ["PublishedRow", "file_fault", "metrics_faults", "row_faults"]

PublishedRow = Annotated[
    dict[str, str] | None,
    Field(description="which row of the published table: its columns by name, such as {backbone: ResNet18}"),
]


def metrics_faults(key: str, published: str | None, metrics: Collection[str]) -> Iterator[str]:
    """A published table that is not there, or has none of the metrics."""
    if published is None:
        return
    if fault := file_fault(published):
        yield f"'{key}.published': {fault}"
        return
    found = {row["metric"] for row in printed_rows(published)}
    if not found & {plain_metric(metric) for metric in metrics}:
        yield f"'{key}.metrics': published table '{published}' has none of them, only {', '.join(sorted(found))}"


def row_faults(key: str, published: str | None, where: Mapping[str, str] | None) -> Iterator[str]:
    """Columns that a published table does not have, and values that no row has."""
    if where is None:
        return
    if published is None:
        yield f"'{key}.published': the table has no 'published', the file that this row is in"
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
            yield f"'{key}.published.{column}': '{published}' has no '{value}' there{nearest(value, values - {''})}"
            return
    if not any(all(row[column] == value for column, value in where.items()) for row in rows):
        wanted = ", ".join(f"{column} '{value}'" for column, value in where.items())
        yield f"'{key}.published': '{published}' has no row with {wanted}"


def file_fault(published: str) -> str:
    """Why a published table cannot be read; empty where it can."""
    names = [name for name in published_names() if "metric" in printed_rows(name)[0]]
    return "" if published in names else f"no published table '{published}'{nearest(published, names)}"
