"""Tables of results: categories as rows, methods as columns, published values next to measured ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from nfbench.config.metrics import MetricName
from nfbench.config.runs import Runs, unknown
from nfbench.config.tables import ComparedTableConfig, Selection
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest, plugin_names
from nfbench.metrics import BY_RULE, find_metric
from nfbench.reference import PublishedTable, PublishedValue, printed_rows, published_table
from nfbench.results.compare import Comparison
from nfbench.tables._captions import (
    backbone_note,
    caption_of_runs,
    data_note,
    image_score_note,
    published_note,
    spread,
    threshold_note,
    value_range,
)
from nfbench.tables._comparison import (
    compare_runs,
    file_fault,
    of_setting,
    printed_settings,
    require_metrics,
    shown_backbone,
)
from nfbench.tables._datasets import is_whole
from nfbench.tables._model import PUBLISHED_ONLY, Cell, Column, Row, Source, Table, average_label, published_cell
from nfbench.tables._titles import metric_title, sizes, titles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "ResultsTable"]

_AVERAGES = "averages as printed if all official categories are shown with all their images, else over the shown ones"


class ResultsTable(ComparedTableConfig):
    """A table of results: categories as rows, methods as columns, published values next to measured ones."""

    example = {
        "title": "Pixel AUROC",
        "metric": "pixel_auroc",
        "setting": "one-class",
        "published": "uflow_table1_pixel_auroc",
    }

    kind: Literal["results"] = "results"
    metric: MetricName = Field(description="metric, as run.json names it")
    metric_of: dict[str, MetricName] = Field(
        default_factory=dict, description="other metrics for single methods whose paper uses another score"
    )
    selections: tuple[Selection, ...] = Field(
        ("last",), min_length=1, description="selections of the scored checkpoint; several are shown side by side"
    )
    published_by: str = Field(
        "method", description="column of that file that names the methods, such as method_published"
    )
    published_as: dict[str, str | dict[str, str]] = Field(
        default_factory=dict,
        description="published method that a method or variant is compared with, by default the one with its method's "
        "title; by name of the backbone if several are published, such as 'SANFlow (WRN-50)'",
    )

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield methods and datasets without runs, and published values that do not exist."""
        yield from unknown(f"{key}.metric_of", "method among the experiment's", self.metric_of, runs.plain_methods)
        yield from unknown(f"{key}.published_as", "method among the runs", self.published_as, shown.methods)
        yield from super().faults_in_setting(key, shown, runs)
        for method, printed in self.published_as.items():
            names = [backbone.name for backbone in shown.of_method(method).backbones]
            if isinstance(printed, Mapping) and names:
                yield from unknown(f"{key}.published_as.{method}", "backbone among its runs", printed, names)
        if self.published is not None:
            yield from self._published_faults(key, self.published, shown)

    def _published_faults(self, key: str, published: str, shown: Runs) -> Iterator[str]:
        if fault := file_fault(published):
            yield f"'{key}.published': {fault}"
            return
        if self.published_by not in (columns := printed_rows(published)[0]):
            hint = nearest(self.published_by, columns)
            yield f"'{key}.published_by': '{published}' has no column '{self.published_by}'{hint}"
            return
        for dataset in dict.fromkeys(self.published_datasets.get(dataset) for dataset in shown.datasets):
            try:
                found = published_table(published, shown.printed_settings, dataset, self.published_by)
            except NfbenchError as error:
                yield f"'{key}.{'published_datasets' if dataset else 'published'}': {error}"
                continue
            titles = found.methods(self.metric)
            if not titles:
                yield f"'{key}.metric': published table '{published}' has no values of '{self.metric}'"
                continue
            for method, printed in self.published_as.items():
                wanted = list(printed.values()) if isinstance(printed, Mapping) else [printed]
                yield from unknown(f"{key}.published_as.{method}", "published method", wanted, titles)

    def make(self, name: str, source: Source) -> Table:
        """Select, average and compare.

        Datasets on which the metric is not defined are left out, and the caption says so.

        Raises:
            NfbenchError: no run has the metric, the results have several settings, or the published table or one of its
                methods is unknown.
        """
        results = of_setting(name, self.setting, source.results)
        for method in self.metric_of:
            if method not in plugin_names("nfbench.methods"):
                hint = nearest(method, plugin_names("nfbench.methods"))
                raise NfbenchError(f"table '{name}': unknown method '{method}' in 'metric_of'{hint}")
        own_metric = results.variant_of.map(lambda method: self.metric_of.get(method, self.metric))
        require_metrics(name, own_metric.unique(), results)
        chosen = results[results.metric == own_metric]
        without = sorted(set(results.dataset) - set(chosen.dataset))
        results = results[~results.dataset.isin(without)]
        by_dataset = {dataset: self._published_of(dataset, results) for dataset in results.dataset.unique()}
        published = next(iter(by_dataset.values()), None)
        self._check_published_as(name, results, published)
        alone = results.method.isin(_of_images_alone(results) - {*chosen.method})
        columns = self._columns(results[~alone])
        own = {column.published_as for column in columns}
        printed_methods = (method for table in by_dataset.values() if table for method in table.methods(self.metric))
        others = [method for method in dict.fromkeys(printed_methods) if method not in own]
        rows: list[Row] = []
        for dataset, of_dataset in results.groupby("dataset", sort=False):
            categories, part = list(of_dataset.category.unique()), chosen[chosen.dataset == dataset]
            whole = is_whole(dataset, of_dataset, source.notes)
            by_column = [(column, *_runs_of(part, column)) for column in columns]
            for printed in _printed_rows(by_dataset[dataset], self.metric, categories, whole):
                cells: list[Cell] = [self._cell(column, printed, runs, places) for column, runs, places in by_column]
                cells += [published_cell(printed.value(method), status=PUBLISHED_ONLY) for method in others]
                rows.append(Row((dataset, printed.label), tuple(cells), printed.kind, printed.of_kind))
        columns += [Column(method, is_text=True, group=PUBLISHED_ONLY) for method in others]
        caption = self._caption(results, chosen, source, published) + _shared_columns(columns, results)
        if alone.any():
            caption += f" Left out, because they only score images: {', '.join(results[alone].title.unique())}."
        if without:
            have = "has" if len(without) == 1 else "have"
            caption += f" Not defined on {', '.join(without)}, which {have} no masks."
        return Table(name, caption, tuple(columns), tuple(rows), published.paper if published else "")

    def _caption(
        self, results: pd.DataFrame, chosen: pd.DataFrame, source: Source, published: PublishedTable | None
    ) -> str:
        """Write the caption from results of all metrics, and those selected for the cells."""
        named = find_metric(self.metric)
        names = results.drop_duplicates("variant_of").set_index("variant_of").method_title
        others = [f"; of {names[m]}, {metric_title(metric)}" for m, metric in self.metric_of.items() if m in names]
        shown = titles([self.metric]) + "".join(others)
        more = [named.metric.note]
        if named.metric.needs_masks:
            more.append(_regions_note(results))
        if named.metric.variants == BY_RULE and named.plain:
            more.append(image_score_note(results))
        more.append(threshold_note(chosen))
        if published:
            printed, own = f"{published.paper}, {published.table}", "the papers' own backbones, input sizes, settings"
            more.append(published_note(printed, own, _AVERAGES, self.tolerance))
        return caption_of_runs(
            f"{self.title}: {shown}, {spread(results)}",
            results,
            self.selections,
            (backbone_note(results), data_note(results, source.notes)),
            more,
            measured=sizes([self.metric]),
        )

    def _published_of(self, dataset: str, results: pd.DataFrame) -> PublishedTable | None:
        """The published table for one dataset."""
        if self.published is None:
            return None
        of = self.published_datasets.get(dataset)
        return published_table(self.published, printed_settings(results), of, self.published_by)

    def _check_published_as(self, name: str, results: pd.DataFrame, published: PublishedTable | None) -> None:
        methods = set(results.method)
        titles = published.methods(self.metric) if published else []
        for method, printed in self.published_as.items():
            if method not in methods:
                hint = nearest(method, methods)
                raise NfbenchError(f"table '{name}': 'published_as' has the method '{method}', which has no runs{hint}")
            for title in printed.values() if isinstance(printed, dict) else [printed]:
                if title not in titles:
                    raise NfbenchError(
                        f"table '{name}': unknown published method '{title}' in 'published_as' of '{method}'"
                        f"{nearest(title, titles)}"
                    )

    def _columns(self, results: pd.DataFrame) -> list[Column]:
        found = results[["method", "backbone", "title", "method_title", "variant_of"]].drop_duplicates()
        shared = _shared_tags(results)
        columns: dict[tuple[str, str], list[Column]] = {}
        for row in found.itertuples():
            tags = shared.get((row.method, row.backbone), (row.backbone,))
            backbone = row.backbone if len(tags) == 1 else _name_and_sizes(tags, results)
            metric = self.metric_of.get(row.variant_of, "")
            printed = self.published_as.get(row.method, row.method_title)  # as papers print it on this backbone
            if isinstance(printed, dict):
                printed = printed.get(_backbone_name(row.backbone), row.method_title)
            columns[row.method, backbone] = [
                Column(row.title, row.method, backbone, selection, metric, printed, tags)
                for selection in self.selections
            ]
        return [column for group in columns.values() for column in group]

    def _cell(
        self, column: Column, printed: _Printed, runs: pd.DataFrame, places: Mapping[str, Sequence[int]]
    ) -> Comparison:
        if places.keys() >= set(printed.categories):
            runs = runs.take(sorted(place for category in printed.categories for place in places[category]))
        else:
            runs = runs.iloc[:0]  # an average over some rows would look like one over all rows
        return compare_runs(runs, printed.value(column.published_as), self.tolerance)


def _runs_of(part: pd.DataFrame, column: Column) -> tuple[pd.DataFrame, Mapping[str, Sequence[int]]]:
    """Return the runs of a column, and the positions of each category's runs among them."""
    same = (part.method == column.method) & part.backbone.isin(column.tags)
    runs = part[same & (part.selection == column.selection)]
    return runs, runs.groupby("category").indices


class _Printed(NamedTuple):
    """Published values of a row: of a category, or averages.

    Attributes:
        table: published table; None without.
        metric: metric of the values.
        label: label of the row.
        categories: measured categories.
        average: the paper's name for its average over the same categories; empty if it prints none.
        kind: kind of the averaged categories; empty for all.
        of_kind: all categories of that kind.
    """

    table: PublishedTable | None
    metric: str
    label: str
    categories: Sequence[str]
    average: str = ""
    kind: str = ""
    of_kind: tuple[str, ...] = ()

    def value(self, method: str) -> PublishedValue | None:
        """The value of a category; for averages, the printed one, or our own average of the printed values.

        None if a value is missing.
        """
        import numpy as np

        if self.table is None:
            return None
        if self.average and (printed := self.table.value(method, self.average, self.metric)):
            return printed
        found = [self.table.value(method, category, self.metric) for category in self.categories]
        values = [value for value in found if value is not None]
        if len(values) == 1:
            return values[0]
        if len(values) < len(found) or any(value.is_lost for value in values):
            return None
        notes = "; ".join(sorted({value.note for value in values if value.note}))
        mean = float(np.mean([value.value for value in values]))
        cells = tuple(cell for value in values for cell in value.cells)
        return PublishedValue(mean, all(value.trusted for value in values), notes, cells=cells)


def _printed_rows(table: PublishedTable | None, metric: str, measured: list[str], whole: bool) -> Iterator[_Printed]:
    """Rows of a dataset: its categories, averages by kind if the paper prints them, and the average over all.

    Args:
        table: published table for the dataset; None without.
        metric: metric of the values.
        measured: measured categories.
        whole: whether these are all official categories with all their images.
    """
    for category in measured:
        yield _Printed(table, metric, category, [category])
    if len(measured) < 2:
        return
    printed = {category for _, category, found in table.values if found == metric} if table else set()
    kinds = dict.fromkeys(table.kinds.values()) if table else ()
    for kind in kinds:
        of_kind = tuple(category for category in table.kinds if table.kinds[category] == kind) if table else ()
        mine = [category for category in measured if category in of_kind]
        average = f"average_{kind}"
        if average in printed and 1 < len(mine) < len(measured):
            yield _Printed(table, metric, average_label(kind), mine, average if whole else "", kind, of_kind)
    yield _Printed(table, metric, average_label(), measured, "average_total" if whole else "")


def _of_images_alone(results: pd.DataFrame) -> set[str]:
    """Methods without metrics that need masks, on datasets where other methods have some."""
    of_maps = [name for name in results.metric.unique() if find_metric(name).metric.needs_masks]
    return {*results.method} - {*results.method[results.metric.isin(of_maps)]}


def _shared_tags(results: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """For methods whose backbone has different input sizes by category: all its tags, by method and tag.

    Tags share a column if no category has two of them; so do the best backbones of a search.
    """
    shared: dict[tuple[str, str], tuple[str, ...]] = {}
    names = shown_backbone(results).map(_backbone_name)
    for (method, _), part in results.groupby(["method", names], sort=False):
        tags = tuple(part.backbone.unique())
        if part.groupby(["dataset", "category"]).backbone.nunique().max() == 1:
            shared |= {(method, tag): tags for tag in tags}
    return shared


def _backbone_name(tag: str) -> str:
    return tag.partition("@")[0]


def _name_and_sizes(tags: tuple[str, ...], results: pd.DataFrame) -> str:
    by_name: dict[str, list[str]] = {}
    shown = results[results.backbone.isin(tags)].sort_values("input_size")
    for tag in dict.fromkeys(shown.backbone):
        name, _, rest = tag.partition("@")
        by_name.setdefault(name, []).append(rest.partition("-")[0])
    return " or ".join(f"{name}@{'/'.join(dict.fromkeys(sizes))}" for name, sizes in by_name.items())


def _shared_columns(columns: list[Column], results: pd.DataFrame) -> str:
    """Name the backbone of each category, for columns with several backbones."""
    notes = []
    for column in {(c.method, c.tags): c for c in columns if len(c.tags) > 1}.values():
        part = results[results.method == column.method]
        by_tag = (f"{tag} on {', '.join(part[part.backbone == tag].category.unique())}" for tag in column.tags)
        notes.append(f" {column.title}: {'; '.join(by_tag)}.")
    return "".join(notes)


def _regions_note(results: pd.DataFrame) -> str:
    """Number of ground-truth regions of the test set, without images used for training or validation."""
    taken = ["n_real", "n_validation"]
    images = results.dropna(subset="n_regions").drop_duplicates([*taken, "seed", "dataset", "category"])
    if images.empty:
        return ""
    if not images.n_real.any():  # the test set is the same for all seeds, even if runs are missing
        images = images.drop_duplicates(["n_validation", "dataset", "category"]).assign(seed=0)
    regions = images.groupby([*taken, "seed"]).n_regions.sum()
    count = value_range(regions)
    by = ", by the anomalies left out of the test set" if regions.nunique() > 1 else ""
    return f"{count} ground-truth regions{by}"


TABLE = ResultsTable
