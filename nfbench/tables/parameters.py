"""Tables of parameters, counted in models built without data or weights, next to published numbers."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from nfbench.config.backbone import BackboneConfig
from nfbench.config.checks import backbone_faults
from nfbench.config.grid import VariantConfig
from nfbench.config.names import Name
from nfbench.config.runs import Runs
from nfbench.config.tables import TableConfig
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.reference import PrintedValue, find_printed
from nfbench.tables._captions import sentences
from nfbench.tables._comparison import PublishedRow, file_fault, row_faults
from nfbench.tables._model import Column, Row, Source, Table, Text

if TYPE_CHECKING:
    from nfbench.blocks.method import Method

__all__ = ["TABLE", "CountedModel", "ParametersTable"]

_UNITS = {"millions": (1e6, "M")}


class CountedModel(Model):
    """A row of a table of parameters: a model whose parameters are counted."""

    method: Name = Field(description="method or variant")
    backbone: BackboneConfig = Field(description="backbone, levels and input size, which give the shapes")
    published: PublishedRow = None
    explanation: str = Field("", description="note on this count, for example why it differs from the published one")


class ParametersTable(TableConfig):
    """A table of trainable parameters, counted in built models, next to published numbers; needs no runs."""

    from_runs = False
    example = {"title": "Sizes", "rows": [{"method": "fastflow", "backbone": {"name": "resnet18.tv_in1k"}}]}

    kind: Literal["parameters"] = "parameters"
    published: str | None = Field(None, description="file of nfbench/reference without its extension")
    rows: tuple[CountedModel, ...] = Field(min_length=1, description="models in the order of the rows")

    @property
    def built(self) -> tuple[tuple[str, BackboneConfig], ...]:
        """Models whose parameters are counted."""
        return tuple((row.method, row.backbone) for row in self.rows)

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Yield methods and backbones that cannot be built, and published numbers that do not exist."""
        for number, row in enumerate(self.rows):
            of_row = f"{key}.rows.{number}"
            if fault := runs.known.method_fault(row.method):
                yield f"'{of_row}.method': {fault}"
            yield from backbone_faults(f"{of_row}.backbone", row.backbone)
            if row.published is not None:
                yield from row_faults(of_row, self.published, row.published)
        if self.published and (fault := file_fault(self.published)):
            yield f"'{key}.published': {fault}"

    def make(self, name: str, source: Source) -> Table:
        """Build the models one after the other and count their parameters.

        Raises:
            NfbenchError: unknown method, setting, backbone or level, or a row of the published table does not exist.
        """
        counts = [self._count(name, row, source.variants[row.method]) for row in self.rows]
        parts = tuple(dict.fromkeys(part for count in counts for part in count.parts))
        papers = " and ".join(sorted({count.published.source for count in counts if count.published}))
        published = (
            f"published numbers from {papers}",
            "'Equal' names the counts that match the published number at its printed precision; notes explain the "
            "others",
        )
        title = f"{self.title}: trainable parameters, counted in our models, by part and in total"
        letters = iter(string.ascii_lowercase)
        marks = [next(letters) if count.explanation else "" for count in counts]
        columns = [Column(head, is_text=True) for head in (*parts, "total", "published")]
        columns += [Column(head, is_text=True, align="l") for head in ("equal", "note")]
        return Table(
            name,
            sentences(title, *(published if papers else ())),
            tuple(columns),
            tuple(Row(count.labels, count.cells(parts, mark)) for count, mark in zip(counts, marks, strict=True)),
            heads=("method", "backbone", "settings"),
            grouped=False,
            notes={mark: count.explanation for count, mark in zip(counts, marks, strict=True) if mark},
        )

    def _count(self, table: str, row: CountedModel, variant: VariantConfig) -> _Count:
        from nfbench.blocks.method import count_parameters

        model = _build(row, variant)
        parts = {part: count for part, count in count_parameters(model).items() if part != "total"}
        printed = None
        if self.published and row.published is not None:
            printed = find_printed(self.published, {"method": model.title, **row.published})
        if printed and printed.unit not in _UNITS:
            raise NfbenchError(
                f"table '{table}': '{printed.text} {printed.unit}' of '{self.published}' is not a number of parameters"
            )
        settings = ", ".join(f"{key} {value}" for key, value in variant.settings.items())
        return _Count((model.title, row.backbone.tag, settings), parts, printed, row.explanation)


class _Count(NamedTuple):
    """A model: method, backbone and settings in words; parameters by part; published number; note."""

    labels: tuple[str, str, str]
    parts: Mapping[str, int]
    published: PrintedValue | None
    explanation: str

    def cells(self, parts: tuple[str, ...], mark: str) -> tuple[Text, ...]:
        """Counts by part and in total, published number, names of equal counts, and mark of the note."""
        counts = {**{part: self.parts.get(part) for part in parts}, "total": sum(self.parts.values())}
        numbers = [self._number(part, count) for part, count in counts.items()]
        if (published := self.published) is None:
            beside = [
                Text("–", {"published": "", "unit": ""}, "published"),
                Text("", {"equal": "", "trust": ""}, "off"),
            ]
        else:
            unit, letter = _UNITS[published.unit]
            found = [part for part, count in counts.items() if count is not None and published.equals(count / unit)]
            equal = ", ".join(found) or "none"
            trust, doubt = ("trusted", "") if published.trusted else ("doubtful", " ?")
            record = {"published": published.text, "unit": published.unit}
            beside = [
                Text(f"{published.text} {letter}{doubt}", record, "published", published=published),
                Text(equal, {"equal": equal, "trust": trust}, "reproduced" if found else "off"),
            ]
        return (*numbers, *beside, Text(mark, {"explanation": self.explanation}))

    def _number(self, part: str, count: int | None) -> Text:
        if count is None:
            return Text("–", {part: ""})
        settings, published = self.labels[-1], self.published
        trace = (
            f"{count:,} trainable parameters",
            f"counted in a model with {settings}" if settings else "",
            f"published in {published.source}: {published.text}" if published else "",
            self.explanation,
        )
        return Text(f"{count:,}", {part: count}, trace=tuple(filter(None, trace)))


def _build(row: CountedModel, variant: VariantConfig) -> Method:
    """Build the model without memory for its parameters."""
    from nfbench.blocks.method import resolve_settings
    from nfbench.features.building import count_on

    backbone = row.backbone
    settings = resolve_settings(variant.method, backbone=backbone.name, overrides=variant.settings)
    return count_on(backbone, variant.method, settings)


TABLE = ParametersTable
