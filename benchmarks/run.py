"""Runs all benchmarks in sequence. Close other programs first: all results are wall times."""

import subprocess
import sys

MODELS = ("training_step", "cflow_training", "coreset", "scoring")
STAGES = (
    "preparation",
    "unified_memory",
    "extraction",
    "online",
    "overhead",
    "plan_all",
    "interrupted",
    "segmentation",
    "aupimo",
    "report",
    "tracking",
    "gpu",
)

for name in MODELS + STAGES:
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
