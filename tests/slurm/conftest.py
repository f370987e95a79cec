"""One Slurm for all tests, and what became of its jobs, printed when they have run."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing, running
from tests.workflow.conftest import Checkout

_SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Five machines, each with room for the third try of a training."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    if reason := missing():
        pytest.skip(reason)
    with running(nodes=5, memory_mb=33_000) as started:
        yield started


@pytest.fixture
def tell(request: pytest.FixtureRequest, cluster: Cluster) -> Callable[[int, int], None]:
    """Add a line to the summary: the jobs that Slurm ran since the test began, by how they ended; none may be lost."""
    before = len(cluster.finished())

    def line(expected: int, found: int) -> None:
        ends = Counter(job["JobState"] for job in cluster.finished()[before:])
        jobs, described = sum(ends.values()), ", ".join(f"{count} {state}" for state, count in sorted(ends.items()))
        text = f"{request.node.name}: {jobs} jobs run ({described}), {jobs - ends['COMPLETED']} of them run again"
        request.config.stash.setdefault(_SUMMARY, []).append(f"{text}; {expected - found} of {expected} results lost")
        assert found == expected

    return line


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how the jobs ended."""
    if lines := config.stash.get(_SUMMARY, []):
        terminalreporter.section("jobs of Slurm")
        for line in lines:
            terminalreporter.line(line)
