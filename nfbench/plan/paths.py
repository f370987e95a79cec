"""Paths of all files under ``results_root``, as templates with Snakemake's wildcards and as methods."""

from collections.abc import Iterable
from pathlib import Path

from nfbench.plan.cells import Cell

__all__ = ["EVALUATED", "SCORED", "TRAINED", "WILDCARDS", "Paths"]

WILDCARDS = {
    "fetch_data": "{reader}",
    "check_data": "{dataset}",
    "prepare_data": "{dataset}/{category}",
    "extract_features": "{backbone}/{dataset}/{category}/{view}",
    "create_study": "{setting}/{dataset}/{category}/{method}",
    "search_hyperparameters": "{setting}/{dataset}/{category}/{method}/worker{worker}",
    "summarize_study": "{setting}/{dataset}/{category}/{method}",
    "train_flow": "{setting}/{dataset}/{category}/{method}/{backbone}/seed{seed}{condition}",
    "score_run": "{setting}/{dataset}/{category}/{method}/{backbone}/seed{seed}{condition}",
    "evaluate_run": "{setting}/{dataset}/{category}/{method}/{backbone}/seed{seed}{condition}",
    "aggregate_results": "{experiment}",
    "build_table": "{experiment}/{table}",
    "build_figure": "{experiment}/{figure}",
    "build_report": "{experiment}",
    "track_runs": "{experiment}",
}
"""Part of a path that identifies a job of a stage, in all files that it writes."""

TRAINED = ("model.safetensors", "checkpoints.safetensors", "held_out.safetensors", "history.csv", "training.json")
"""Files that a training writes into its run's folder; the record, which marks completion, is last."""

SCORED = "scored/scored.json"
"""Record of a run's scores and maps, which lie next to it until they are evaluated."""

EVALUATED = (
    "run.json",
    "thresholds.json",
    "scores.csv",
    "by_image.csv",
    "regions.csv",
    "miou.csv",
    "calibration.csv",
    "likelihoods.csv",
    "examples.npz",
    "representations.npz",
)
"""Files that an evaluation writes into its run's folder."""

_FEATURES = f"features/{WILDCARDS['extract_features']}"
_STUDY = f"studies/{WILDCARDS['create_study']}"
_RUN = f"runs/{WILDCARDS['train_flow']}"


class Paths:
    """Paths of all files, for the workflow, the command line and the tests.

    Args:
        root: ``results_root``.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def template(self, pattern: str) -> str:
        """Returns a pattern under the root, as a string for Snakemake."""
        return str(self.root / pattern)

    @property
    def manifest(self) -> str:
        """Manifest of one category of a dataset."""
        return self.template(f"manifests/{WILDCARDS['prepare_data']}.csv")

    @property
    def manifest_record(self) -> str:
        """Record of a manifest, next to it."""
        return self.template(f"manifests/{WILDCARDS['prepare_data']}.json")

    @property
    def features(self) -> str:
        """Description of the cached features of one view; the levels lie next to it."""
        return self.template(f"{_FEATURES}/meta.json")

    def run(self, file: str) -> str:
        """Template of a file of a run."""
        return self.template(f"{_RUN}/{file}")

    def study(self, file: str) -> str:
        """Template of a file of a study."""
        return self.template(f"{_STUDY}/{file}")

    def log(self, stage: str) -> str:
        """Template of the log of a stage's jobs."""
        return self.template(f"logs/{stage}/{WILDCARDS[stage]}.log")

    def benchmark(self, stage: str) -> str:
        """Template of Snakemake's benchmark file (wall time and memory) of a stage's jobs."""
        return self.template(f"benchmarks/{stage}/{WILDCARDS[stage]}.tsv")

    def run_record(self, cell: Cell) -> Path:
        """Path of ``run.json`` of a cell."""
        return self.root / "runs" / str(cell) / "run.json"

    def run_log(self, rule: str, cell: Cell) -> Path:
        """Path of the log of a rule on a cell."""
        return self.root / "logs" / rule / f"{cell}.log"

    def run_benchmark(self, rule: str, cell: Cell) -> Path:
        """Path of the benchmark file (wall time and memory) of a rule on a cell."""
        return self.root / "benchmarks" / rule / f"{cell}.tsv"

    def study_of(self, cell: Cell) -> Path:
        """Path of ``study.json`` of a cell whose variant has a search."""
        return Path(self.study("study.json").format(**vars(cell)))

    def experiment(self, name: str, file: str) -> Path:
        """Path of a file of an experiment: ``results.parquet`` or ``ledger.csv``."""
        return self.root / "experiments" / name / file

    def report(self, experiment: str) -> Path:
        """Path of the report of an experiment."""
        return self.root / "reports" / f"{experiment}.html"

    @property
    def tracking(self) -> Path:
        """Folder of MLflow's database and files, and of the records of imports."""
        return self.root / "mlflow"

    def table(self, experiment: str, name: str, ending: str) -> Path:
        """Path of a table of an experiment as ``tex``, ``html`` or ``csv``."""
        return self.root / "tables" / experiment / f"{name}.{ending}"

    def figure(self, experiment: str, name: str, ending: str) -> Path:
        """Path of a figure of an experiment as ``pdf`` or ``png``."""
        return self.root / "figures" / experiment / f"{name}.{ending}"

    def gathered(self, experiment: str, tables: Iterable[str], figures: Iterable[str]) -> dict[str, list[Path]]:
        """Lists the files built from the runs of an experiment, by kind.

        Args:
            experiment: name of the experiment.
            tables: names of its tables.
            figures: names of its figures.
        """
        return {
            "tables": [self.table(experiment, name, end) for name in tables for end in ("tex", "html", "csv")],
            "figures": [self.figure(experiment, name, end) for name in figures for end in ("pdf", "png")],
            "results": [self.experiment(experiment, file) for file in ("results.parquet", "ledger.csv")],
            "report": [self.report(experiment)],
        }
