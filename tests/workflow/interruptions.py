"""Runs interrupted at random moments, and the comparison of their results."""

import base64
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.workflow.conftest import Checkout, environment

KINDS = {
    "Ctrl-C": (signal.SIGINT, True),
    "SIGTERM to all": (signal.SIGTERM, True),
    "SIGKILL to all": (signal.SIGKILL, True),
    "SIGKILL to Snakemake alone": (signal.SIGKILL, False),  # its jobs run on, beside those of the next run
}
JOBS = 8
TARGET = "results/tables/hit/hit_miou.csv"
RECORDS = ("meta.json", "training.json", "run.json")
METRICS = ("selections", "by_epoch", "parameters", "contour")
EXPERIMENT = """
title: Long enough to be hit
datasets:
  synthetic-hit: {dataset: synthetic, max_train: 24, max_test_normal: 4, max_test_anomalous: 8}
variants:
  uflow-hit: {method: uflow, settings: {epochs: 40, batch_size: 4, flow_steps: 2, checkpoints: 2}}
grid:
  - methods: [uflow-hit]
    backbones:
      - {name: tf_efficientnet_lite0, input_size: 64, weights: random}
    datasets:
      synthetic-hit: [fabric]
tables:
  hit_miou: {title: Interrupted, metric: miou_fair, metric_of: {uflow: miou_nfa}}
"""


class InterruptedRuns:
    """The experiment ``hit`` in a checkout, started again and again.

    Args:
        checkout: where it runs.
        seed: of the moments and of the order of kinds.
    """

    def __init__(self, checkout: Checkout, seed: int) -> None:
        self.checkout, self.random = checkout, random.Random(seed)
        self.groups: list[int] = []
        self.finished: dict[Path, int] = {}  # records of jobs that were finished at an interruption, and their times
        self.made_twice: set[Path] = set()
        (checkout.folder / "workflow" / "experiments" / "hit.yaml").write_text(EXPERIMENT)
        self.variables = {**environment(), "NFBENCH_CHECKPOINT_SECONDS": "1"}

    def run(self) -> float:
        """Run to the end; return seconds."""
        started = time.monotonic()
        done = subprocess.run(self._command(), cwd=self.checkout.folder, env=self.variables, capture_output=True)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()[-5000:]
        return time.monotonic() - started

    def interrupt(self, count: int, whole_seconds: float) -> list[str]:
        """Start and interrupt so often, or until a run ends by itself; says what was done, and what it met.

        Args:
            count: interruptions.
            whole_seconds: an undisturbed run takes so long. A moment is less than a mean job's time after some number
                of jobs is finished, in all runs together, so that moments are spread over the stages.
        """
        kinds = [kind for _ in range(0, count, len(KINDS)) for kind in self.random.sample(list(KINDS), len(KINDS))]
        moments = sorted(self.random.randrange(JOBS - 1) for _ in range(count))
        moments[0] = min(moments[0], JOBS // 2)  # before the run ends by itself
        moments[-1] = JOBS - 2  # when a run is evaluated, so that there is something to keep
        events = []
        for kind, jobs in zip(kinds, moments, strict=False):
            seconds = self.random.uniform(0, whole_seconds / JOBS)
            process = subprocess.Popen(
                self._command(), cwd=self.checkout.folder, env=self.variables, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self.groups.append(process.pid)
            while process.poll() is None and self._jobs_finished() < jobs:
                time.sleep(0.05)
            time.sleep(seconds)
            if process.poll() is not None:
                break
            number, to_all = KINDS[kind]
            (os.killpg if to_all else os.kill)(process.pid, number)
            process.wait(timeout=300)
            self._note_finished(orphans=not to_all)
            events.append(f"{kind} {seconds:.1f} s after {jobs} jobs: {self._state()}")
            self._unlock()
        return events

    def end_orphans(self) -> None:
        """End the jobs of Snakemakes that were killed alone."""
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _command(self) -> list[str]:
        return self.checkout.command(TARGET)

    def _jobs_finished(self) -> int:
        """In all runs so far, by Snakemake's logs."""
        logs = (self.checkout.folder / ".snakemake" / "log").glob("*.log")
        return sum(len(re.findall(r"^Finished jobid:", path.read_text(), flags=re.M)) for path in logs)

    def _note_finished(self, orphans: bool) -> None:
        """Notes records that Snakemake does not hold for incomplete, by whose encoded paths it marks them.

        Args:
            orphans: jobs run on, and write what the next run makes too.
        """
        marks = (self.checkout.folder / ".snakemake" / "incomplete").rglob("*")
        begun = {self.checkout.folder / base64.b64decode(mark.name).decode() for mark in marks if mark.is_file()}
        self.made_twice |= begun if orphans else set()
        found = {path for name in RECORDS for path in (self.checkout.folder / "results").rglob(name)}
        for path in found - begun - self.made_twice:
            self.finished.setdefault(path, path.stat().st_mtime_ns)

    def _locks(self) -> list[Path]:
        return list((self.checkout.folder / ".snakemake" / "locks").glob("*"))

    def _state(self) -> str:
        root = self.checkout.folder / "results"
        resumable = len(list(root.glob("runs/**/state.pt")))
        extracted, trained, evaluated = (len(list(root.rglob(name))) for name in RECORDS)
        locked = "locked" if self._locks() else "not locked"
        return f"{extracted} extracted, {trained} trained, {resumable} half trained, {evaluated} evaluated, {locked}"

    def _unlock(self) -> None:
        if self._locks():
            self.checkout.snakemake("--unlock")


def outcome(folder: Path) -> tuple[dict[str, bytes], dict[str, dict]]:
    """Bytes of all tables and scores, and the metrics of all run records."""
    root = folder / "results"
    files = [*root.glob("tables/*/*"), *root.glob("runs/**/*.csv")]
    exact = {str(path.relative_to(root)): path.read_bytes() for path in files if path.name != "history.csv"}
    records = {str(path.relative_to(root)): json.loads(path.read_text()) for path in root.glob("runs/**/run.json")}
    return exact, {name: {key: record[key] for key in METRICS} for name, record in records.items()}
