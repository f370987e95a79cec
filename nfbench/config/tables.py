"""What tables and figures of all kinds have in common; each kind adds its keys in ``nfbench.tables`` or ``figures``.

Kinds are imported while the workflow is parsed, with what Snakemake brings alone.
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
    """Whether the table is made from runs; otherwise from code alone."""

    title: str = Field(description="caption")

    @property
    def built(self) -> tuple[tuple[str, BackboneConfig], ...]:
        """Variants, each with a backbone, that are built to make the table."""
        return ()

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Faults that are known before anything runs: runs that are not there, names that stand for nothing.

        Args:
            key: where the table is in its file.
            runs: the runs of its experiment.
        """
        yield from ()

    @abstractmethod
    def make(self, name: str, source: "Source") -> "Table":
        """Makes the table.

        Args:
            name: name of the table.
            source: results, and what else a table is made from.

        Raises:
            NfbenchError: what it shows is not there; names the table.
        """


class RunsTableConfig(TableConfig):
    """A table of the runs of one setting."""

    setting: Setting | None = Field(
        None, description="show the runs of this setting; needed where the experiment has runs of several"
    )

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Faults of the setting; where it has none, those of the rest."""
        if self.setting is None and len(runs.settings) > 1:
            yield (
                f"'{key}': the experiment has runs of the settings {', '.join(runs.settings)}, which are not "
                f"comparable; say which the table shows, 'setting: {runs.settings[0]}'"
            )
        elif self.setting is not None and self.setting not in runs.settings:
            yield from unknown(f"{key}.setting", "runs in the setting", [self.setting], runs.settings)
        else:
            yield from self.faults_in_setting(key, runs.of(self.setting), runs)

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Faults by the runs of the table's setting, and by all runs of the experiment."""
        yield from ()


class ComparedTableConfig(RunsTableConfig):
    """A table of the runs of one setting, next to published values."""

    published: str | None = Field(None, description="file of nfbench/reference without its ending")
    published_datasets: dict[str, str] = Field(
        default_factory=dict, description="the published table's names of datasets, where it has rows of several"
    )
    tolerance: tuple[float, float] = Field(
        (0.5, 1.5), description="points within which a cell is 'reproduced' and 'close'; beyond, it is 'off'"
    )

    def faults_in_setting(self, key: str, shown: Runs, runs: Runs) -> Iterator[str]:
        """Datasets that were not run."""
        yield from unknown(
            f"{key}.published_datasets", "dataset among the runs", self.published_datasets, shown.datasets
        )

    def published_row(self, where: Mapping[str, str], dataset: str) -> dict[str, str]:
        """Columns that name a row of the published table; of several datasets there, that of ``dataset``."""
        named = self.published_datasets.get(dataset)
        return {"dataset": named, **where} if named else dict(where)

    def published_rows(self, where: Mapping[str, str] | None, datasets: Sequence[str]) -> list[dict[str, str]]:
        """The rows that ``published_row`` names on datasets, each once."""
        rows = [] if where is None else [self.published_row(where, dataset) for dataset in datasets]
        return [row for number, row in enumerate(rows) if row not in rows[:number]]


class FigureConfig(Kind):
    """A figure of an experiment."""

    package = "nfbench.figures"
    attribute = "FIGURE"
    from_runs: ClassVar[bool] = True

    needs: ClassVar[tuple[str, ...]] = ()
    """Methods of ``Method``; one of them has to be defined by one of the methods that are drawn, if any is named."""
    drawn: ClassVar[str] = ""
    """What these give, for messages."""

    setting: Setting | None = Field(None, description="draw the runs of this setting only")

    def faults(self, key: str, runs: Runs) -> Iterator[str]:
        """Faults that are known before anything runs, as those of tables."""
        if self.setting is not None:
            yield from unknown(f"{key}.setting", "runs in the setting", [self.setting], runs.settings)
        if self.needs:
            known = _defining(self.needs)
            if not runs.of(self.setting).plain_methods & {*known}:
                yield f"'{key}': none of its methods has {self.drawn}; those that have: {', '.join(known)}"

    @abstractmethod
    def draw(self, runs: "Sequence[DrawnRun]") -> "Figure":
        """Draws the figure.

        Args:
            runs: at least one run.

        Raises:
            NfbenchError: the runs have nothing that it shows.
        """


def _defining(members: Sequence[str]) -> list[str]:
    """Methods that define one of these members of ``Method``."""
    package = "nfbench.methods"
    return [name for name in plugin_names(package) if plugin_defines(package, name, "METHOD", members, root="Method")]


AnyTable = SerializeAsAny[TableConfig]
"""A table of any kind."""

AnyFigure = SerializeAsAny[FigureConfig]
"""A figure of any kind."""
