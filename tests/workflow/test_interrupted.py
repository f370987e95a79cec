"""A run interrupted at random moments and continued repeats no finished job and gives the same results."""

import random

import pytest

from tests.workflow.interruptions import JOBS, TARGET, InterruptedRuns, outcome

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_an_interrupted_run_comes_out_the_same(new_checkout):
    seed = random.randrange(10**6)
    print("seed of the moments:", seed)
    whole, interrupted = InterruptedRuns(new_checkout(), seed), InterruptedRuns(new_checkout(), seed)
    whole.checkout.snakemake(TARGET)
    try:
        events = interrupted.interrupt(4, JOBS * 3)  # one of each kind
        print(*events, sep="\n")
        interrupted.run()
        (exact, metrics), (found, found_metrics) = outcome(whole.checkout.folder), outcome(interrupted.checkout.folder)
    finally:
        interrupted.end_orphans()
    assert events
    assert interrupted.finished
    assert {path: path.stat().st_mtime_ns for path in interrupted.finished} == interrupted.finished
    assert len(metrics) == 1
    assert found_metrics == metrics
    assert found.keys() == exact.keys()
    assert {name for name in exact if exact[name] != found[name]} == set()
