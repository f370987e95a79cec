"""Tables of dataset statistics: images, kinds of defect and defective regions of each category."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from nfbench.config.names import Name
from nfbench.config.runs import Runs, unknown
from nfbench.config.tables import RunsTableConfig
from nfbench.core.errors import NfbenchError
from nfbench.reference import PrintedValue, find_printed, printed_rows
from nfbench.tables._captions import sentences
from nfbench.tables._comparison import file_fault, of_setting
from nfbench.tables._model import Column, Row, Source, Table, Text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "StatisticsTable"]

_COUNTS = {
    "n_train": "training images",
    "n_test_good": "normal test images",
    "n_test_defective": "anomalous test images",
    "n_defect_groups": "kinds of defect",
    "n_defect_regions": "defective regions",
    "image_side_length": "side in pixels",
}
_TOTAL = "total"


class StatisticsTable(RunsTableConfig):
    """A table of images and defects by category, as counted by the runs, next to published counts."""

    example = {"title": "Images", "dataset": "mvtec_ad", "setting": "one-class"}

    kind: Literal["statistics"] = "statistics"
    dataset: Name = Field(description="dataset whose categories are counted")
    published: str | None = Field(None, description="file of nfbench/reference without its extension")

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield a fault if the dataset has no runs or the file does not exist."""
        yield from unknown(f"{key}.dataset", "dataset among the runs", [self.dataset], shown.datasets)
        if self.published and (fault := file_fault(self.published)):
            yield f"'{key}.published': {fault}"

    def make(self, name: str, source: Source) -> Table:
        """Take the counts of each category from the run that left out the fewest images.

        Raises:
            NfbenchError: no run has a single category of the dataset.
        """
        results = of_setting(name, self.setting, source.results)
        results = results[(results.dataset == self.dataset) & (results.n_classes == 1)]
        if results.empty:
            raise NfbenchError(f"table '{name}': no run has a single category of '{self.dataset}'")
        left_out = (results.n_real + results.n_validation).argsort(kind="stable")
        runs = results.iloc[left_out].drop_duplicates("category").sort_values("category")
        counts = {run.category: _counts(run) for _, run in runs.iterrows()}
        total = {key: _sum([found[key] for found in counts.values()]) for key in _COUNTS if key != "image_side_length"}
        rows = [
            Row((category,), self._cells(category, found, runs[runs.category == category]))
            for category, found in counts.items()
        ]
        rows.append(Row((_TOTAL,), self._cells(_TOTAL, total, runs)))
        papers = {cell.published.source for row in rows for cell in row.cells if cell.published}
        caption = sentences(
            f"{self.title}: counted in the manifests and masks",
            "regions are 8-connected",
            f"in brackets, counts of {' and '.join(sorted(papers))} where they differ" if papers else "",
        )
        columns = tuple(Column(title, is_text=True) for title in _COUNTS.values())
        return Table(name, caption, columns, tuple(rows), heads=("category",), grouped=False)

    def _cells(self, category: str, counts: dict[str, int | None], runs: pd.DataFrame) -> tuple[Text, ...]:
        return tuple(_cell(key, counts.get(key), self._printed(category, key), runs) for key in _COUNTS)

    def _printed(self, category: str, key: str) -> PrintedValue | None:
        if self.published is None or category not in {row["category"] for row in printed_rows(self.published)}:
            return None
        return find_printed(self.published, {"category": category}, key)


def _counts(run: Any) -> dict[str, int | None]:
    import pandas as pd

    values = {
        "n_train": run.n_train + run.n_val,
        "n_test_good": run.n_test_normal,
        "n_test_defective": run.n_test - run.n_test_normal,
        "n_defect_groups": run.n_defects,
        "n_defect_regions": run.n_regions,
        "image_side_length": run.image_side,
    }
    return {key: None if pd.isna(value) else int(value) for key, value in values.items()}


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _cell(key: str, count: int | None, printed: PrintedValue | None, runs: pd.DataFrame) -> Text:
    title = _COUNTS[key]
    shown = "–" if count is None else f"{count:,}"
    record = {title: count, f"{title}, published": printed.text if printed else ""}
    if printed is None:
        return Text(shown, record, runs=runs)
    equal = count is not None and printed.equals(count)
    text = shown if equal else f"{shown} ({printed.text})"
    return Text(text, record, "reproduced" if equal else "off", f"{printed.source}: {printed.text}", (), printed, runs)


TABLE = StatisticsTable
