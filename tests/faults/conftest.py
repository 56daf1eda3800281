"""The product under the tests, and the one table at the end of the run (tests.faults.table)."""

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from tests.faults.product import product
from tests.faults.table import PROPERTY, Promise, Row, markdown, render, today

__all__ = ["product"]

Breaking = Callable[[str, Promise], Row]
ROWS = pytest.StashKey[list[Row]]()
#: Whole files of the suite that keep a promise too: the row that stands for all of their tests.
ELSEWHERE = {
    "tests/flows/test_isolation.py": (
        "a foreign tenant, a missing right, nobody at all: every address",
        Promise.ISOLATED,
    ),
    "tests/abuse/test_pages.py": (
        "forged requests, made-up hosts, redirects, methods and parameters, missing headers: every address",
        Promise.BROWSER,
    ),
    "tests/abuse/test_ingest.py": ("ingest fuzzed: bytes, JSON, values, a gzip bomb of 2 GB", Promise.CLEAR),
}


@pytest.fixture
def breaking(request: pytest.FixtureRequest) -> Breaking:
    """``breaking(fault, promise)`` names a row of the table; the test sets what was measured."""
    rows: list[Row] = request.node.stash.setdefault(ROWS, [])

    def name(fault: str, promise: Promise) -> Row:
        rows.append(Row(fault, promise.label))
        return rows[-1]

    return name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report: Any = yield
    if report.when == "call":
        for row in item.stash.get(ROWS, []):
            if not report.passed:
                row.held = "NO"
            report.user_properties.append((PROPERTY, asdict(row)))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the table; writes it to ``FAULT_REPORT`` if that is set."""
    rows = list(_rows(terminalreporter.stats))
    if not rows:
        return
    terminalreporter.section("faults: what was promised, what was measured")
    terminalreporter.write_line("\n".join(render(rows)))
    if target := os.environ.get("FAULT_REPORT"):
        Path(target).write_text(markdown(rows, terminalreporter._session_start.elapsed().seconds, today()))
        terminalreporter.write_line(f"written to {target}")


def _rows(stats: dict[str, list[Any]]) -> Iterator[Row]:
    """The rows of all tests by file and line, whichever process ran them; one row for each file of ``ELSEWHERE``."""
    reports = [
        report
        for outcome in ("passed", "failed", "error")
        for report in stats.get(outcome, [])
        # A file that could not be read has no tests to tell of; pytest itself says so.
        if isinstance(report, pytest.TestReport) and (report.when == "call" or not report.passed)
    ]
    for report in sorted(reports, key=lambda one: (one.location[0], one.location[1] or 0)):
        told = [Row(**cast(Any, values)) for name, values in report.user_properties if name == PROPERTY]
        yield from told
        if not told and not report.passed and report.location[0] not in ELSEWHERE:
            yield Row(report.location[2], "-", "failed before it could measure", "NO")
    for path, (fault, promise) in ELSEWHERE.items():
        if there := [report for report in reports if report.location[0] == path]:
            failed = sum(not report.passed for report in there)
            measured = f"{len(there)} checks, {failed} failed"
            yield Row(fault, promise.label, measured, "NO" if failed else "yes")
