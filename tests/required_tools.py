"""Skips for a missing tool become failures where the variable ``NFBENCH_REQUIRE_TOOLS`` is 1, as in ``.ci/run``.

A reason to skip that names a missing tool or package ends with "is not installed"; ``pytest.importorskip`` writes
"could not import".
"""

import os
import re
from collections.abc import Iterator

import pytest

MISSING = re.compile(r"is not installed|could not import")


def _fail_if_missing(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    if os.environ.get("NFBENCH_REQUIRE_TOOLS") == "1" and MISSING.search(reason):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nNFBENCH_REQUIRE_TOOLS is 1, so a missing tool is a failure, not a skip."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _fail_if_missing(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _fail_if_missing(report)
    return report
