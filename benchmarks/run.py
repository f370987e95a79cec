"""All benchmarks, one after the other. Close other programs first: everything here is a wall time."""

import subprocess
import sys

NAMES = (
    "training_step",
    "cflow_training",
    "coreset",
    "scoring",
    "extraction",
    "overhead",
    "segmentation",
    "report",
    "gpu",
)
for name in NAMES:
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
