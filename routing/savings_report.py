"""The savings ledger: days read from the holdout's daily sums, and what they come to by scope and by day."""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from overrides.exporting import csv_line, inert
from routing.savings import Money, Rate, Savings, savings
from routing.savings_intervals import Estimate
from telemetry.arm_sums import Arm, ArmDay, ArmSums, add
from telemetry.arms import read_arms
from telemetry.clickhouse import ClickHouse

#: Days of a range, at most, and when none is asked for.
MOST_DAYS, USUAL_DAYS = 400, 30
#: Rows that one request reads, of an arm, a task, a scope and a day each: 1 to 3 s.
MOST_ROWS = 60_000

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Entry:
    """What was saved by a scope (None: by all that was asked for), on a day (None: over the whole range)."""

    tenant: str | None
    persona: str | None
    day: date | None
    savings: Savings


@dataclass(frozen=True, slots=True)
class Ledger:
    """``first`` to ``last``, both included, days in UTC."""

    first: date
    last: date
    rows: Sequence[ArmDay]

    def total(self) -> Savings:
        return savings(self.rows)

    def completions(self, arm: Arm) -> int:
        return add(row.sums for row in self.rows if row.arm is arm).completions

    def by_scope(self) -> list[Entry]:
        """Of the whole range, by tenant and persona."""
        found = _grouped(self.rows, lambda row: (row.tenant, row.persona))
        return [
            Entry(tenant, persona, None, savings(rows)) for (tenant, persona), rows in sorted(found.items())
        ]

    def by_scope_and_day(self) -> list[Entry]:
        found = _grouped(self.rows, lambda row: (row.tenant, row.persona, row.day))
        return [
            Entry(tenant, persona, day.date(), savings(rows))
            for (tenant, persona, day), rows in sorted(found.items())
        ]

    def by_day(self) -> list[Entry]:
        """Of all scopes together, by day."""
        found = _grouped(self.rows, lambda row: row.day)
        return [Entry(None, None, day.date(), savings(rows)) for day, rows in sorted(found.items())]


def _grouped(rows: Sequence[ArmDay], key: Callable[[ArmDay], K]) -> dict[K, list[ArmDay]]:
    found: dict[K, list[ArmDay]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


class BadRange(ValueError):
    """Days that no ledger can be read of."""


def days_of(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """A range's first and last day. Without a last day it ends today, and without a first day it has 30 days. Raises
    BadRange, which says why."""
    last = last or today
    if not date(2000, 1, 1) <= last <= today + timedelta(days=1):
        raise BadRange(f"The last day, {last}, lies before the year 2000 or in the future")
    first = first or last - timedelta(days=USUAL_DAYS - 1)
    if first > last:
        raise BadRange(f"The first day, {first}, is after the last, {last}")
    if (last - first).days >= MOST_DAYS:
        raise BadRange(f"A range has at most {MOST_DAYS} days, not {(last - first).days + 1}")
    return first, last


def read_ledger(
    clickhouse: ClickHouse,
    first: date,
    last: date,
    *,
    tenants: Collection[str] | None,
    persona: str | None = None,
    most: int | None = None,
    timeout: float | None = None,
) -> Ledger:
    """Of these tenants (None: all), this persona (None: all) and days of ``days_of``, in one query. Raises TooManyRows
    and ClickHouseError."""
    rows = read_arms(
        clickhouse,
        _start(first),
        _start(last) + timedelta(days=1),
        tenants=tenants,
        personas=None if persona is None else [persona],
        most=MOST_ROWS if most is None else most,
        timeout=timeout,
    )
    return Ledger(first, last, rows)


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def described(told: Savings) -> dict[str, Any]:
    """Plain values: money as Decimal, rates and shares from 0 to 1, what cannot be told as None."""
    return {
        "verdict": told.verdict.value,
        "saved_usd": _interval(told.saved_usd),
        "saved_share": _interval(told.saved_share),
        "success": _rate(told.success),
        "escalation": _rate(told.escalation),
        "safety": _rate(told.safety),
        "harms": list(told.harms),
        "completions_per_conversation": _interval(told.length),
        "control": _arm(told.control),
        "treated": _arm(told.treated),
        "days": told.days,
        "strata": told.strata,
        "compared": told.compared,
        "unadjusted": told.unadjusted,
        "priced": told.priced,
    }


def _interval(one: Money | Estimate | None) -> dict[str, Any] | None:
    return None if one is None else {"value": one.value, "lower": one.lower, "upper": one.upper}


def _rate(one: Rate | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"control": one.control, "treated": one.treated, "difference": _interval(one.difference)}


def _arm(sums: ArmSums) -> dict[str, Any]:
    return {
        "conversations": sums.conversations,
        "completions": sums.completions,
        "priced": sums.priced,
        "cost_usd": sums.cost_usd,
    }


_BOUNDS = ("value", "lower", "upper")
_SHOWN: Sequence[tuple[str, str]] = (
    ("saved_usd", "saved_usd"),
    ("saved_share", "saved_share"),
    ("success", "success_difference"),
    ("escalation", "escalation_difference"),
    ("safety", "safety_difference"),
    ("completions_per_conversation", "completions_per_conversation_difference"),
)
CSV_COLUMNS = (
    "from",
    "to",
    "tenant",
    "persona",
    "verdict",
    *(f"{name}{end}" for _, name in _SHOWN for end in ("", "_lower", "_upper")),
    *(
        f"{arm}_{name}"
        for arm in ("control", "treated")
        for name in ("conversations", "completions", "cost_usd")
    ),
    "compared",
    "unadjusted",
    "priced",
)


def csv_lines(ledger: Ledger, entries: Sequence[Entry]) -> Iterator[str]:
    """A header, and a line per entry. What cannot be told is an empty cell; numbers stay numbers, and no text is a
    formula."""
    yield csv_line(CSV_COLUMNS)
    for one in entries:
        told = described(one.savings)
        cells: list[Any] = [one.day or ledger.first, one.day or ledger.last, one.tenant, one.persona]
        cells.append(told["verdict"])
        for name, _ in _SHOWN:
            interval = told[name] or {}
            interval = interval.get("difference", interval)
            cells += [_plain(interval.get(end)) for end in _BOUNDS]
        for arm in ("control", "treated"):
            cells += [_plain(told[arm][name]) for name in ("conversations", "completions", "cost_usd")]
        cells += [_plain(told[name]) for name in ("compared", "unadjusted", "priced")]
        yield csv_line([inert(cell) for cell in cells[:5]] + cells[5:])


def _plain(value: Any) -> Any:
    # Not 1E-9, which some readers take for text.
    return format(value, "f") if isinstance(value, Decimal) else value
