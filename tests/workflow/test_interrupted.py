"""A run that is interrupted at random moments and continued comes out as one that nobody disturbed."""

import random

import pytest

from tests.in_process import run_experiment
from tests.workflow.interruptions import JOBS, InterruptedRuns, outcome

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def test_an_interrupted_run_comes_out_the_same(new_checkout):
    seed = random.randrange(10**6)
    print("seed of the moments:", seed)
    whole, interrupted = InterruptedRuns(new_checkout(), seed), InterruptedRuns(new_checkout(), seed)
    run_experiment(whole.checkout.folder, "hit")
    try:
        events = interrupted.interrupt(4, JOBS * 3)  # one of each kind
        print(*events, sep="\n")
        interrupted.run()
        (exact, metrics), (found, found_metrics) = outcome(whole.checkout.folder), outcome(interrupted.checkout.folder)
    finally:
        interrupted.end_orphans()
    assert events
    assert len(metrics) == 1
    assert found_metrics == metrics
    assert found.keys() == exact.keys()
    assert {name for name in exact if exact[name] != found[name]} == set()
