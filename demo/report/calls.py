"""What came of the run, read back from ClickHouse: its completions with the reasons of their decisions, and totals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from routing.logged.completions import Completion, read_completions
from routing.logged.scope import Scope, Span
from routing.logged.selections import LoggedSelection, read_selections
from routing.savings import CONTROL
from telemetry import metrics
from telemetry.clickhouse import ClickHouse
from telemetry.totals import merge

#: Names of conversations begin with their phase.
BEFORE, AFTER = "before", "after"


class Side(StrEnum):
    """Flag off; flag on but held out on the default; flag on and selected for."""

    BEFORE = "before"
    HELD_OUT = "held_out"
    SELECTED = "selected"


@dataclass(frozen=True, slots=True)
class Call:
    """A completion of the run. ``reason`` None: the worker's own default, nobody decided."""

    side: Side
    scope: Scope
    reason: str | None
    completion: Completion


def read_calls(clickhouse: ClickHouse, scopes: Iterable[Scope], span: Span) -> list[Call]:
    """Of these scopes and this span; completions of other conversations are passed over. Raises ClickHouseError."""
    found: list[Call] = []
    for scope in scopes:
        for day in span.days():
            selections = read_selections(clickhouse, scope, day)
            found += calls_of(scope, selections, read_completions(clickhouse, scope, day))
    return found


def calls_of(
    scope: Scope, selections: Sequence[LoggedSelection], completions: Iterable[Completion]
) -> list[Call]:
    """A conversation is held out whole: it is drawn by its name. Pure."""
    reasons = {selection.decision_id: selection.reason for selection in selections}
    held_out = {one.conversation_id for one in selections if one.reason in CONTROL}
    found = []
    for completion in completions:
        phase, _, _ = completion.conversation_id.partition("-")
        if phase not in (BEFORE, AFTER):
            continue
        if phase == BEFORE:
            side = Side.BEFORE
        else:
            side = Side.HELD_OUT if completion.conversation_id in held_out else Side.SELECTED
        reason = None if completion.decision_id is None else reasons.get(completion.decision_id)
        found.append(Call(side, scope, reason, completion))
    return found


@dataclass(frozen=True, slots=True)
class Rolled:
    """Everything that the roll-ups hold of a span: completions, and US dollars."""

    completions: int
    cost_usd: Decimal


def read_rolled(clickhouse: ClickHouse, start: datetime, end: datetime) -> Rolled:
    """Over all tenants. The span is widened to whole 5-minute buckets. Raises ClickHouseError."""
    first = metrics.trailing(metrics.Window.M5, start).start
    last = metrics.trailing(metrics.Window.M5, end).end
    totals = merge(metrics.read_totals(clickhouse, metrics.Span(first, last)).values())
    return Rolled(totals.requests, totals.cost_usd)
