"""All benchmarks, one after the other. Close other programs first: everything here is a wall time."""

import subprocess
import sys

for name in ("training_step", "cflow_training", "coreset", "scoring", "extraction", "overhead", "segmentation", "gpu"):
    print(f"\n== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
