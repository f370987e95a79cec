"""All benchmarks, one after the other. Close other programs first: everything here is a wall time."""

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
    "report",
    "tracking",
    "gpu",
)

for name in MODELS + STAGES:
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
