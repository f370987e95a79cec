"""Overhead of the workflow: of one training job, and of a run with 1,000 finished cells and nothing to do.

Works in a copy of the workflow in a temporary folder.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")
GRID = """
title: A thousand cells
seeds: 50
datasets: {big: {dataset: synthetic, max_train: 4, max_test_normal: 2, max_test_anomalous: 2}}
grid:
  - methods: [fastflow-smoke, uflow-smoke, fastflow, uflow, fastflow-white]
    backbones: [{name: tf_efficientnet_lite0, input_size: 64, weights: random}]
    datasets: {big: [fabric, stone, tablet, washer]}
tables:
  thousand_image_auroc: {title: A thousand cells, metric: image_auroc}
"""


def run(folder, *arguments):
    """Runs a module and returns wall seconds and its output."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - started, done.stdout + done.stderr


def job_overhead(folder, rounds):
    """Measures a training job without the seconds of its epochs, and the overhead of Snakemake per job."""
    run(folder, "snakemake", "--cores", "2", "smoke")
    path = next(folder.glob("results/runs/*/*/fabric/fastflow-smoke/*/seed0/run.json"))
    spec = json.loads(path.read_text())["specs"]["train"]
    costs = []
    for number in range(rounds):
        target = folder / "runs" / str(number)
        given = {**spec, "settings": {"epochs": 5, "flow_steps": 2}, "run": str(target)}
        wall, _ = run(folder, "nfbench", "train_flow", "--spec", json.dumps(given), "--threads", "1")
        costs.append(wall - json.loads((target / "training.json").read_text())["seconds"]["train"])
    print(
        f"overhead of one training job: {statistics.median(costs):.2f} s (median of {rounds}, target 3 s)",
        flush=True,
    )


def no_op(folder, rounds):
    """Measures a run whose 1,000 cells are finished."""
    (folder / "workflow" / "experiments" / "thousand.yaml").write_text(GRID)
    arguments = ("snakemake", "--cores", "2", "thousand")
    _, printed = run(folder, *arguments, "--summary")
    for line in printed.splitlines():
        name, *columns = line.split("\t")
        if columns and name.startswith("results/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    run(folder, *arguments, "--touch")
    times = []
    for _ in range(rounds):
        seconds, printed = run(folder, *arguments)
        if "Nothing to be done" not in printed:
            raise SystemExit("expected a run with nothing to do:\n" + printed[-2000:])
        times.append(seconds)
    print(
        f"run of 1,000 finished cells: {statistics.median(times):.1f} s (median of {rounds}, target 15 s)", flush=True
    )


def main(rounds=3):
    """Runs both measurements."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        job_overhead(folder, rounds)
        no_op(folder, rounds)


if __name__ == "__main__":
    main()
