"""Cost of planning all experiments at once: every method, backbone and dataset, five seeds, without data.

A dry run in a copy of the workflow in a temporary folder, with the datasets' miniatures.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "profiles", "envs")


def plan(folder, experiments, seeds):
    """Returns wall seconds of a dry run, and the number of jobs by rule."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "1"]
    command += ["--config", "miniature=true", "data_root=/nowhere", f"seeds={seeds}", "--", *experiments]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    lines = (done.stdout + done.stderr).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("job ")) + 2
    rows = [line.split() for line in lines[first : lines.index("", first)]]
    return time.perf_counter() - started, {name: int(count) for name, count in rows}


def main():
    """Plans all experiments and prints jobs, seconds and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    experiments = sorted(path.stem for path in (ROOT / "workflow" / "experiments").glob("*.yaml"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        seconds, jobs = plan(folder, experiments, seeds)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = jobs.pop("total")
    print(f"{len(experiments)} experiments, {seeds} seeds: {total:,} jobs")
    for rule, count in sorted(jobs.items(), key=lambda pair: -pair[1]):
        if rule not in experiments:
            print(f"  {rule}: {count:,}")
    print(f"planned in {seconds:.0f} s ({used.ru_utime + used.ru_stime:.0f} s of CPU, {used.ru_maxrss / 1024:.0f} MiB)")


if __name__ == "__main__":
    main()
