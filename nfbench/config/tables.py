"""Base models of tables and figures. Kinds in ``nfbench.tables`` and ``nfbench.figures`` add their keys.

Kinds are imported while the workflow is parsed, so they may import only what Snakemake itself depends on.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, SerializeAsAny

from nfbench.config.backbone import BackboneConfig
from nfbench.config.grid import Setting
from nfbench.config.kinds import Kind
from nfbench.config.runs import Runs, unknown
from nfbench.core.registry import plugin_defines, plugin_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nfbench.figures._base import DrawnRun
    from nfbench.tables._model import Source, Table

__all__ = [
    "AnyFigure",
    "AnyTable",
    "ComparedTableConfig",
    "FigureConfig",
    "RunsTableConfig",
    "Selection",
    "TableConfig",
]

Selection = Literal["last", "val", "oracle"]


class TableConfig(Kind):
    """A table of an experiment."""

    package = "nfbench.tables"
    attribute = "TABLE"
    default_kind = "results"
    from_runs: ClassVar[bool] = True
    """Whether the table shows runs; otherwise it depends on code alone."""
    of_conditions: ClassVar[bool] = False
    """Whether the table shows the runs of all conditions; otherwise those on unchanged images."""

    title: str = Field(description="caption")

    @property
    def built(self) -> tuple[tuple[str, BackboneConfig], ...]:
        """Pairs of a variant and a backbone whose models are built for the table."""
        return ()

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Yield faults that are known before anything runs: missing runs and unknown names.

        Args:
            key: key of the table in its file.
            runs: the runs of its experiment.
        """
        yield from ()

    @abstractmethod
    def make(self, name: str, source: "Source") -> "Table":
        """Build the table.

        Args:
            name: name of the table.
            source: results and other inputs of tables.

        Raises:
            NfbenchError: what it should show is missing; the message names the table.
        """


class RunsTableConfig(TableConfig):
    """A table of the runs of one setting."""

    setting: Setting | None = Field(
        None, description="show the runs of this setting; required if the experiment has several settings"
    )

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Yield faults of the setting; if it has none, those of the other keys."""
        if self.setting is None and len(runs.settings) > 1:
            yield (
                f"'{key}': the experiment has runs of the settings {', '.join(runs.settings)}, which cannot be "
                f"compared; choose one, such as 'setting: {runs.settings[0]}'"
            )
        elif self.setting is not None and self.setting not in runs.settings:
            yield from unknown(f"{key}.setting", "runs in the setting", [self.setting], runs.settings)
        else:
            yield from self.faults_in_setting(key, runs.of(self.setting), runs)

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield faults, given the runs of the table's setting and all runs of the experiment."""
        yield from ()


class ComparedTableConfig(RunsTableConfig):
    """A table of the runs of one setting, next to published values."""

    published: str | None = Field(None, description="file in nfbench/reference, without its ending")
    published_datasets: dict[str, str] = Field(
        default_factory=dict, description="names of datasets in the published table, if it has rows of several"
    )
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5),
        description="largest difference, in points, of a cell that is 'reproduced' and of one that is 'close'; beyond, "
        "it is 'off'",
    )

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Yield faults for datasets without runs."""
        yield from unknown(
            f"{key}.published_datasets", "dataset among the runs", self.published_datasets, shown.datasets
        )

    def published_row(self, where: Mapping[str, str], dataset: str) -> dict[str, str]:
        """Return the columns that identify the row of ``dataset`` in the published table."""
        named = self.published_datasets.get(dataset)
        return {"dataset": named, **where} if named else dict(where)

    def published_rows(self, where: Mapping[str, str] | None, datasets: Sequence[str]) -> list[dict[str, str]]:
        """Return ``published_row`` of several datasets, without duplicates."""
        rows = [] if where is None else [self.published_row(where, dataset) for dataset in datasets]
        return [row for number, row in enumerate(rows) if row not in rows[:number]]


class FigureConfig(Kind):
    """A figure of an experiment."""

    package = "nfbench.figures"
    attribute = "FIGURE"
    from_runs: ClassVar[bool] = True
    of_conditions: ClassVar[bool] = False
    """Whether the figure shows the runs of all conditions; otherwise those on unchanged images."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Members of ``Method``. If any are named, at least one of the methods drawn must define one of them."""
    drawn: ClassVar[str] = ""
    """What these members provide, for messages."""

    setting: Setting | None = Field(None, description="draw only the runs of this setting")

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Yield faults that are known before anything runs: missing runs and unknown names."""
        if self.setting is not None:
            yield from unknown(f"{key}.setting", "runs in the setting", [self.setting], runs.settings)
        if self.needs:
            known = _defining(self.needs)
            if not runs.of(self.setting).plain_methods & {*known}:
                yield f"'{key}': none of its methods has {self.drawn}; methods that have: {', '.join(known)}"

    @abstractmethod
    def draw(self, runs: "Sequence[DrawnRun]") -> "Figure":
        """Draw the figure.

        Args:
            runs: at least one run.

        Raises:
            NfbenchError: the runs do not contain what the figure shows.
        """


def _defining(members: Sequence[str]) -> list[str]:
    """Return the methods that define one of these members of ``Method``."""
    package = "nfbench.methods"
    return [name for name in plugin_names(package) if plugin_defines(package, name, "METHOD", members, root="Method")]


AnyTable = SerializeAsAny[TableConfig]
"""A table of any kind."""

AnyFigure = SerializeAsAny[FigureConfig]
"""A figure of any kind."""
