"""The last day of cards against the day before: figures, changes, and sparklines as points."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from commandcenter.cards import Card
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.totals import Totals, merge
from telemetry.trends import Series, read_hourly

log = logging.getLogger(__name__)

#: A page does without trends sooner than it waits.
_TIMEOUT_SECONDS = 2.0
_HOUR = timedelta(hours=1)
WIDTH, HEIGHT = 96, 24
#: The day before must have so many completions, and such a share of today's, to be compared with.
_ENOUGH, _COMPARABLE = 30, 0.25


@dataclass(frozen=True, slots=True)
class Line:
    """One figure's last 24 hours: SVG points, what they say in words, and the change against the day before as a share
    (0.1: a tenth more; None: unknown)."""

    points: str
    last: tuple[str, str] | None
    text: str
    change: float | None


@dataclass(frozen=True, slots=True)
class Trend:
    cost: Line
    success: Line
    p95: Line


def trends_of(cards: Sequence[Card], now: datetime) -> dict[tuple[str, str], Trend] | None:
    """Of a page's cards, in one query on roll-ups. None: ClickHouse cannot be asked now."""
    series = {Series(card.tenant, card.persona, card.profile) for card in cards if card.profile}
    # Whole hours, the running one included.
    end = now.replace(minute=0, second=0, microsecond=0) + _HOUR
    start = end - timedelta(hours=48)
    try:
        found = read_hourly(get_clickhouse(), series, start, end, timeout=_TIMEOUT_SECONDS)
    except ClickHouseError as error:
        log.warning("cards without trends: %s", error)
        return None
    hours = [start + _HOUR * index for index in range(48)]
    return {
        (one.tenant, one.persona): _trend([by_hour.get(hour) for hour in hours])
        for one, by_hour in found.items()
    }


def _trend(hours: list[Totals | None]) -> Trend:
    before, today = hours[:24], hours[24:]
    was, now = (merge(part for part in half if part is not None) for half in (before, today))
    if was.requests < _ENOUGH or was.requests < now.requests * _COMPARABLE:
        was = Totals()  # a change against a handful of completions would tell of chance
    return Trend(
        cost=_line(
            "cost per completion",
            [_float(hour.cost_per_completion) if hour else None for hour in today],
            _float(was.cost_per_completion),
            _float(now.cost_per_completion),
            lambda value: f"${value:.6f}",
        ),
        success=_line(
            "success",
            [hour.success_rate if hour else None for hour in today],
            was.success_rate,
            now.success_rate,
            lambda value: f"{value:.1%}",
        ),
        p95=_line(
            "p95",
            [hour.latency_p95_ms if hour else None for hour in today],
            was.latency_p95_ms,
            now.latency_p95_ms,
            lambda value: f"{value / 1000:.1f} s",
        ),
    )


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _line(name: str, values: list[float | None], was: float | None, now: float | None, told: object) -> Line:
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    if not known:
        return Line("", None, f"{name}: no completions in the last 24 h", None)
    show = told if callable(told) else str
    low, high = min(value for _, value in known), max(value for _, value in known)
    points = list(_points(known, low, high))
    change = (now - was) / was if was and now is not None else None
    text = f"{name} by the hour, last 24 h: from {show(low)} to {show(high)}, last {show(known[-1][1])}"
    return Line(" ".join(f"{x},{y}" for x, y in points), points[-1], text, change)


def _points(known: Iterable[tuple[int, float]], low: float, high: float) -> Iterable[tuple[str, str]]:
    for index, value in known:
        x = 2 + index / 23 * (WIDTH - 4)
        y = HEIGHT / 2 if high == low else 2 + (high - value) / (high - low) * (HEIGHT - 4)
        yield f"{x:.1f}", f"{y:.1f}"
