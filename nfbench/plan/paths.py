"""Where everything lies under ``results_root``. Templates keep Snakemake's wildcards; methods fill them in."""

from collections.abc import Iterable
from pathlib import Path

from nfbench.plan.cells import Cell

__all__ = ["Paths"]

_FEATURES = "features/{backbone}/{dataset}/{category}/{view}"
_STUDY = "studies/{setting}/{dataset}/{category}/{method}"
_RUN = "runs/{setting}/{dataset}/{category}/{method}/{backbone}/seed{seed}"


class Paths:
    """Path provider of the workflow, the command line and the tests.

    Args:
        root: ``results_root``.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def template(self, pattern: str) -> str:
        """A pattern under the root, as a string for Snakemake."""
        return str(self.root / pattern)

    @property
    def manifest(self) -> str:
        """Images of one category of a dataset."""
        return self.template("manifests/{dataset}/{category}.csv")

    @property
    def features(self) -> str:
        """Description of the cached features of one view; the levels lie beside it."""
        return self.template(f"{_FEATURES}/meta.json")

    def run(self, file: str) -> str:
        """A file of a run."""
        return self.template(f"{_RUN}/{file}")

    def study(self, file: str) -> str:
        """A file of the study in which a variant's settings are searched for."""
        return self.template(f"{_STUDY}/{file}")

    def log(self, rule: str, suffix: str) -> str:
        """Log of a rule, by the wildcards of what it makes."""
        return self.template(f"logs/{rule}/{suffix}.log")

    def benchmark(self, rule: str, suffix: str) -> str:
        """Wall time and memory of a job, as Snakemake measures it."""
        return self.template(f"benchmarks/{rule}/{suffix}.tsv")

    @property
    def run_suffix(self) -> str:
        """Wildcards of a run, for logs and benchmarks."""
        return _RUN.removeprefix("runs/")

    @property
    def study_suffix(self) -> str:
        """Wildcards of a study, for logs and benchmarks."""
        return _STUDY.removeprefix("studies/")

    @property
    def features_suffix(self) -> str:
        """Wildcards of cached features, for logs and benchmarks."""
        return _FEATURES.removeprefix("features/")

    def run_record(self, cell: Cell) -> Path:
        """``run.json`` of a cell."""
        return self.root / "runs" / str(cell) / "run.json"

    def run_log(self, rule: str, cell: Cell) -> Path:
        """Log of a rule on a cell."""
        return self.root / "logs" / rule / f"{cell}.log"

    def run_benchmark(self, rule: str, cell: Cell) -> Path:
        """Wall time and memory of a rule on a cell."""
        return self.root / "benchmarks" / rule / f"{cell}.tsv"

    def study_of(self, cell: Cell) -> Path:
        """``study.json`` of a cell whose variant has a search."""
        return Path(self.study("study.json").format(**vars(cell)))

    def experiment(self, name: str, file: str) -> Path:
        """A file of an experiment: ``results.parquet`` or ``ledger.csv``."""
        return self.root / "experiments" / name / file

    def report(self, experiment: str) -> Path:
        """The report of an experiment, one page."""
        return self.root / "reports" / f"{experiment}.html"

    @property
    def tracking(self) -> Path:
        """Folder of MLflow's database and files, and of what is known of imports."""
        return self.root / "mlflow"

    def table(self, name: str, ending: str) -> Path:
        """A table as ``tex``, ``html`` or ``csv``."""
        return self.root / "tables" / f"{name}.{ending}"

    def figure(self, name: str, ending: str) -> Path:
        """A figure as ``pdf`` or ``png``."""
        return self.root / "figures" / f"{name}.{ending}"

    def gathered(self, name: str, tables: Iterable[str], figures: Iterable[str]) -> dict[str, list[Path]]:
        """Files that are made of the runs of an experiment, by kind.

        Args:
            name: of the experiment.
            tables: names of its tables.
            figures: names of its figures.
        """
        return {
            "tables": [self.table(table, ending) for table in tables for ending in ("tex", "html", "csv")],
            "figures": [self.figure(figure, ending) for figure in figures for ending in ("pdf", "png")],
            "results": [self.experiment(name, file) for file in ("results.parquet", "ledger.csv")],
            "report": [self.report(name)],
        }
