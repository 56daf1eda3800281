"""One table of the whole run: fault, promise, what was measured, and whether the promise held.

A test names its row before it breaks anything and fills it in afterwards; a row whose test failed stays in the table as
one that did not hold. Rows travel with pytest's reports, so they arrive from other processes too.
"""

import os
import platform
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

#: The name that rows have among a report's ``user_properties``.
PROPERTY = "fault"


class Promise(Enum):
    """What the design promises: a short name, and its words. Those of section 14 come first."""

    SELECTION = (
        "selections go on",
        "a selection never fails because of ClickHouse, Redis or a late roll-up: 0 errors, p99 + <= 10 ms (14)",
    )
    TELEMETRY = (
        "telemetry exact",
        (
            "accepted telemetry is never lost, never double counted: totals equal an oracle exactly, "
            "under kill -9 x 50, 10x duplicates, 48 h late (14)"
        ),
    )
    OVERRIDE = (
        "override at once",
        "override in effect / in the audit log: <= 5 s / same transaction (14)",
    )
    STALE = (
        "stale never steers",
        "stale telemetry never steers: default within 15 min, alert at once when the flag is on (14)",
    )
    ISOLATED = ("tenants isolated", "tenants are isolated: every endpoint x foreign tenant: 404 (14)")
    DURABLE = (
        "decisions durable",
        "a decision is durable before the answer, is published once, and replays byte for byte (6, 7)",
    )
    ALWAYS = (
        "worker always answers",
        "the client always returns a profile, in bounded time (8)",
    )
    AUDIT = ("audited once", "a change and its audit entry are one; the chain of hashes holds (9)")
    INTACT = (
        "damage never steers",
        "everything that a decision depends on is stored immutably; a damaged record is told of and not used (2)",
    )
    CLEAR = ("clear errors", "each event is judged alone; bad input gets a clear 4xx, never a 5xx (4, 7)")
    BROWSER = ("safe pages", "strict CSP, no request without its token changes anything (10)")

    @property
    def label(self) -> str:
        return self.value[0]

    @property
    def words(self) -> str:
        return self.value[1]


@dataclass
class Row:
    """``measured`` and ``held`` may be set at any time; a failed test overrules ``held``."""

    fault: str
    promise: str
    measured: str = "-"
    held: str = "yes"


#: Columns of the terminal's table; "measured" gets what is left of the width.
_WIDTHS = (44, 22, 66, 14)


def render(rows: Iterable[Row]) -> list[str]:
    """The table for a terminal, cells wrapped."""
    lines = []
    for row in [Row("FAULT", "PROMISE", "MEASURED", "HELD"), *rows]:
        cells = [
            textwrap.wrap(cell, width) or [""] for cell, width in zip(astuple(row), _WIDTHS, strict=True)
        ]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = (part.ljust(width) for part, width in zip(parts, _WIDTHS, strict=True))
            lines.append("  ".join(padded).rstrip())
    return lines


def markdown(rows: Sequence[Row], seconds: float, now: datetime) -> str:
    """The report: machine and date, the table, the promises' own words."""
    table = "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in astuple(row)) + " |" for row in rows
    )
    named = [promise for promise in Promise if any(row.promise == promise.label for row in rows)]
    promises = "\n".join(f"- **{promise.label}**: {promise.words}" for promise in named)
    kept = sum(row.held == "yes" for row in rows)
    return _REPORT.format(
        date=f"{now:%Y-%m-%d}",
        machine=machine(),
        minutes=seconds / 60,
        rows=len(rows),
        kept=kept,
        table=table,
        promises=promises,
    )


_REPORT = """# Faults: what was broken, and what it did

Written by `make faults REPORT=docs/reports/faults.md` on {date}, in {minutes:.1f} minutes, on {machine}.
[faults.md](../faults.md) says how each fault is made and how to read this. Times are through HTTP, on a machine that
did other things too: a p99 is what it was there and then.

{kept} of {rows} rows held in full.

| fault | promise | measured | held |
|---|---|---|---|
{table}

The promises in the design's words, with its section:

{promises}
"""


def machine() -> str:
    """The processor, cores and memory of this machine, and the versions that matter."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{os.cpu_count()} shared cores ({names[0] if names else platform.machine()}), {pages / 2**30:.0f} GB, "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def today() -> datetime:
    return datetime.now(UTC)
