"""Interrupts a run at random moments, continues it each time, and compares the results with an undisturbed run."""

import argparse
import random
import tempfile
from pathlib import Path

from tests.workflow.conftest import Checkout
from tests.workflow.interruptions import InterruptedRuns, outcome


def main():
    """Prints each interruption and whether the results are equal; exits with 1 if they are not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="interruptions")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the random moments")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        whole, interrupted = (InterruptedRuns(Checkout(Path(name)), options.seed) for name in (first, second))
        alone = whole.run()
        try:
            events = interrupted.interrupt(options.count, alone)
            print(*events, sep="\n", flush=True)
            last = interrupted.run()
            same = outcome(Path(first)) == outcome(Path(second))
        finally:
            interrupted.end_orphans()
    print(f"undisturbed {alone:.0f} s; {len(events)} interruptions, after the last of them {last:.0f} s to the end")
    print("tables, scores and metrics are " + ("the same" if same else "NOT the same"))
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
