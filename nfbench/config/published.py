"""What tables and figures ask for is there: runs of their experiment's grid, and values of published tables."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nfbench.config.backbone import BackboneConfig
from nfbench.config.checks import Known, backbone_faults
from nfbench.config.grid import GridBlock
from nfbench.config.tables import (
    AnyTable,
    BackbonesTableConfig,
    FigureConfig,
    MethodsTableConfig,
    ParametersTableConfig,
    SettingsTableConfig,
    TableConfig,
)
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.metrics import find_metric
from nfbench.reference import find_printed, printed_rows, published_names, published_table

__all__ = ["Runs", "figure_faults", "table_faults"]

_SIDE_BY_SIDE = ("one-class", "unified")


@dataclass(frozen=True)
class Runs:
    """The runs that an experiment has, as its grid says."""

    grid: tuple[GridBlock, ...]
    known: Known

    @cached_property
    def settings(self) -> list[str]:
        """Settings of all runs."""
        return list(dict.fromkeys(block.setting for block in self.grid))

    @cached_property
    def datasets(self) -> list[str]:
        """Datasets of all runs."""
        return list(dict.fromkeys(dataset for block in self.grid for dataset in block.datasets))

    @cached_property
    def methods(self) -> list[str]:
        """Methods and variants of all runs."""
        return list(dict.fromkeys(method for block in self.grid for method in block.methods))

    @cached_property
    def plain_methods(self) -> set[str]:
        """Methods of all runs, those of variants too."""
        return {self.known.variants[m].method if m in self.known.variants else m for m in self.methods}

    @cached_property
    def backbones(self) -> list[BackboneConfig]:
        """Backbones of all runs."""
        return [backbone for block in self.grid for backbone in block.backbones]

    def of(self, setting: str | None) -> "Runs":
        """The runs of one setting, all for None."""
        return Runs(tuple(block for block in self.grid if setting in (None, block.setting)), self.known)

    def of_method(self, method: str) -> "Runs":
        """The runs of one method or variant."""
        return Runs(
            tuple(block.model_copy(update={"methods": (method,)}) for block in self.grid if method in block.methods),
            self.known,
        )

    @cached_property
    def printed_settings(self) -> frozenset[str]:
        """Settings as published tables print them, with the number of real anomalies that methods learn from."""
        found = set()
        for block in self.grid:
            for method in block.methods:
                variant = self.known.variants.get(method)
                real = variant.anomalies.real if variant and variant.anomalies else 0
                found.add(f"supervised-{real}" if block.setting == "few-anomaly" else block.setting)
        return frozenset(found)


def figure_faults(key: str, figure: FigureConfig, runs: Runs) -> Iterator[str]:
    """Faults of a figure: a setting that the experiment has no runs of."""
    if figure.setting is not None:
        yield from _unknown(f"{key}.setting", "runs in the setting", [figure.setting], runs.settings)


def table_faults(key: str, table: AnyTable, runs: Runs) -> Iterator[str]:
    """Faults of a table: runs that the experiment does not have, and published values that are not there."""
    if isinstance(table, ParametersTableConfig):
        yield from _parameters_faults(key, table, runs.known)
        return
    if isinstance(table, SettingsTableConfig):
        for missing in [setting for setting in _SIDE_BY_SIDE if setting not in runs.settings]:
            yield f"'{key}': the experiment has no runs in the setting {missing}, which the table shows"
        return
    if table.setting is None and len(runs.settings) > 1:
        yield (
            f"'{key}': the experiment has runs of the settings {', '.join(runs.settings)}, which are not comparable; "
            f"say which the table shows, 'setting: {runs.settings[0]}'"
        )
        return
    if table.setting is not None and table.setting not in runs.settings:
        yield from _unknown(f"{key}.setting", "runs in the setting", [table.setting], runs.settings)
        return
    shown = runs.of(table.setting)
    if isinstance(table, TableConfig):
        yield from _results_faults(key, table, shown, runs)
    elif isinstance(table, BackbonesTableConfig):
        yield from _backbones_faults(key, table, shown)
    else:
        yield from _methods_faults(key, table, shown)


def _results_faults(key: str, table: TableConfig, shown: Runs, runs: Runs) -> Iterator[str]:
    yield from _unknown(f"{key}.metric_of", "method among the experiment's", table.metric_of, runs.plain_methods)
    yield from _unknown(f"{key}.published_as", "method among the runs", table.published_as, shown.methods)
    yield from _unknown(f"{key}.published_datasets", "dataset among the runs", table.published_datasets, shown.datasets)
    for method, printed in table.published_as.items():
        names = [backbone.name for backbone in shown.of_method(method).backbones]
        if isinstance(printed, Mapping) and names:
            yield from _unknown(f"{key}.published_as.{method}", "backbone among its runs", printed, names)
    if table.published is None:
        return
    if fault := _file_fault(table.published):
        yield f"'{key}.published': {fault}"
        return
    if table.published_by not in (columns := printed_rows(table.published)[0]):
        hint = nearest(table.published_by, columns)
        yield f"'{key}.published_by': '{table.published}' has no column '{table.published_by}'{hint}"
        return
    for dataset in dict.fromkeys(table.published_datasets.get(dataset) for dataset in shown.datasets):
        try:
            found = published_table(table.published, shown.printed_settings, dataset, table.published_by)
        except NfbenchError as error:
            yield f"'{key}.{'published_datasets' if dataset else 'published'}': {error}"
            continue
        titles = found.methods(table.metric)
        if not titles:
            yield f"'{key}.metric': published table '{table.published}' has no values of '{table.metric}'"
            continue
        for method, printed in table.published_as.items():
            wanted = list(printed.values()) if isinstance(printed, Mapping) else [printed]
            yield from _unknown(f"{key}.published_as.{method}", "published method", wanted, titles)


def _backbones_faults(key: str, table: BackbonesTableConfig, shown: Runs) -> Iterator[str]:
    tags = [backbone.tag for backbone in shown.backbones]
    for number, row in enumerate(table.rows):
        of_row = f"{key}.rows.{number}"
        yield from _unknown(f"{of_row}.backbone", "run with the backbone", [row.backbone.tag], tags)
        yield from _row_faults(of_row, table.published, row.published)
    yield from _metrics_faults(key, table.published, table.metrics)


def _methods_faults(key: str, table: MethodsTableConfig, shown: Runs) -> Iterator[str]:
    yield from _unknown(f"{key}.datasets", "dataset among the runs", table.datasets or (), shown.datasets)
    for number, row in enumerate(table.rows):
        of_row = f"{key}.rows.{number}"
        if row.method not in shown.methods:
            yield from _unknown(f"{of_row}.method", "run with the method", [row.method], shown.methods)
            continue
        runs = shown.of_method(row.method)
        if row.backbone:
            tags = [backbone.tag for backbone in runs.backbones]
            yield from _unknown(f"{of_row}.backbone", f"run of '{row.method}' on", [row.backbone.tag], tags)
        faults = list(_row_faults(of_row, table.published, row.published))
        yield from faults or _value_faults(of_row, table, row.published, runs)
    yield from _metrics_faults(key, table.published, table.metrics)


def _value_faults(key: str, table: MethodsTableConfig, where: Mapping[str, str] | None, runs: Runs) -> Iterator[str]:
    """Faults of the one published value that each metric of a row is compared with."""
    if table.published is None or where is None or _file_fault(table.published):
        return
    for metric in table.metrics:
        try:
            printed = find_printed(table.published, where, find_metric(metric).printed_as)
        except NfbenchError as error:
            yield f"'{key}.published': {error}"
            continue
        if printed and printed.setting and printed.setting not in runs.printed_settings:
            found = ", ".join(sorted(runs.printed_settings))
            yield f"'{key}.published': its value is of the setting {printed.setting}, the runs are of {found}"


def _parameters_faults(key: str, table: ParametersTableConfig, known: Known) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        of_row = f"{key}.rows.{number}"
        if fault := known.method_fault(row.method):
            yield f"'{of_row}.method': {fault}"
        yield from backbone_faults(f"{of_row}.backbone", row.backbone)
        yield from _row_faults(of_row, table.published, row.published)
    if table.published and (fault := _file_fault(table.published)):
        yield f"'{key}.published': {fault}"


def _metrics_faults(key: str, published: str | None, metrics: Collection[str]) -> Iterator[str]:
    """A published table that is not there, or has none of the metrics."""
    if published is None:
        return
    if fault := _file_fault(published):
        yield f"'{key}.published': {fault}"
        return
    found = {row["metric"] for row in printed_rows(published)}
    if not found & {find_metric(metric).printed_as for metric in metrics}:
        yield f"'{key}.metrics': published table '{published}' has none of them, only {', '.join(sorted(found))}"


def _row_faults(key: str, published: str | None, where: Mapping[str, str] | None) -> Iterator[str]:
    """Columns that a published table does not have, and values that no row has."""
    if where is None:
        return
    if published is None:
        yield f"'{key}.published': the table has no 'published', the file that this row is in"
        return
    if _file_fault(published):
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


def _file_fault(published: str) -> str:
    """Why a published table cannot be read; empty where it can."""
    names = [name for name in published_names() if "metric" in printed_rows(name)[0]]
    return "" if published in names else f"no published table '{published}'{nearest(published, names)}"


def _unknown(key: str, kind: str, asked: Collection[str], known: Collection[str]) -> Iterator[str]:
    for name in asked:
        if name not in known:
            yield f"'{key}': no {kind} '{name}'{nearest(name, known)}"
