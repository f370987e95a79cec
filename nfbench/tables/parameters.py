"""The content of a table of parameters: models are built, without data or weights, and counted."""

from collections.abc import Mapping
from dataclasses import dataclass

from nfbench.blocks.method import LevelShape, Method, build_to_count, count_parameters, resolve_settings
from nfbench.config import CountedModel, ParametersTableConfig, VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.reference import PrintedValue, find_printed
from nfbench.tables.captions import parameters_caption

__all__ = ["Count", "ParametersTable", "make_parameters_table"]

_UNITS = {"millions": 1e6}


@dataclass(frozen=True)
class Count:
    """A row: one model.

    Attributes:
        method: the method as papers print it.
        backbone: tag of the backbone.
        settings: the variant's overrides of the method's settings, in words.
        parts: trainable parameters by part of the model.
        published: the published number, None where there is none.
        explanation: what to know of the count, empty for nothing.
    """

    method: str
    backbone: str
    settings: str
    parts: dict[str, int]
    published: PrintedValue | None
    explanation: str

    @property
    def total(self) -> int:
        """All trainable parameters."""
        return sum(self.parts.values())

    @property
    def equal(self) -> tuple[str, ...]:
        """Which of the counts, by part or in total, are the published number at its printed precision."""
        if self.published is None:
            return ()
        unit = _UNITS[self.published.unit]
        return tuple(part for part, n in {**self.parts, "total": self.total}.items() if self.published.equals(n / unit))


@dataclass(frozen=True)
class ParametersTable:
    """A table of parameters, ready to be written.

    Attributes:
        name: file name without ending, also the LaTeX label.
        caption: title, and what a reader must know before comparing.
        parts: parts of the models, a column each.
        rows: models.
    """

    name: str
    caption: str
    parts: tuple[str, ...]
    rows: tuple[Count, ...]


def make_parameters_table(
    name: str, config: ParametersTableConfig, variants: Mapping[str, VariantConfig]
) -> ParametersTable:
    """Builds the models one after the other and counts.

    Args:
        name: name of the table.
        config: its rows.
        variants: what the names of methods and variants in its rows mean.

    Raises:
        NfbenchError: unknown method, setting, backbone or level, or a row of the published table is not there.
    """
    rows = [_count(name, row, config.published, variants[row.method]) for row in config.rows]
    parts = tuple(dict.fromkeys(part for row in rows for part in row.parts))
    sources = {row.published.source for row in rows if row.published}
    return ParametersTable(name, parameters_caption(config, sources), parts, tuple(rows))


def _count(table: str, row: CountedModel, published: str | None, variant: VariantConfig) -> Count:
    model = _build(row, variant)
    parts = {part: count for part, count in count_parameters(model).items() if part != "total"}
    printed = None
    if published and row.published is not None:
        printed = find_printed(published, {"method": model.title, **row.published})
    if printed and printed.unit not in _UNITS:
        raise NfbenchError(
            f"table '{table}': '{printed.text} {printed.unit}' of '{published}' is no number of parameters"
        )
    settings = ", ".join(f"{key} {value}" for key, value in variant.settings.items())
    return Count(model.title, row.backbone.tag, settings, parts, printed, row.explanation)


def _build(row: CountedModel, variant: VariantConfig) -> Method:
    """The model, without memory for its parameters."""
    backbone = row.backbone
    settings = resolve_settings(variant.method, backbone=backbone.name, overrides=variant.settings)
    shapes, size = [LevelShape(*shape) for shape in backbone.level_shapes.values()], (backbone.input_size,) * 2
    return build_to_count(variant.method, shapes, settings, size)
