"""Logged decisions with what came of them: selections joined with completions, a day at a time."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from routing.logged.completions import Completion, read_completions
from routing.logged.scope import Scope, Span
from routing.logged.selections import LoggedSelection, read_selections
from telemetry.clickhouse import ClickHouse

#: So long after its day a decision's completions are looked for: a call takes an hour at most, then its fallbacks.
GRACE = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class DecisionOutcome:
    """What a decision led to, its fallbacks included: US dollars of all its completions (None: one has no known cost);
    whether the last of them succeeded; whether any violated safety or was escalated; and whether any was of another
    profile than was given."""

    completions: int
    cost_usd: Decimal | None
    success: bool
    safety_violation: bool
    escalated: bool
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """``outcome`` None: no completion of it was reported."""

    selection: LoggedSelection
    outcome: DecisionOutcome | None


def decisions_by_day(clickhouse: ClickHouse, scope: Scope, span: Span) -> Iterator[list[LoggedDecision]]:
    """A list per day of the span, in order of time; one day is held at a time. Raises ClickHouseError."""
    for day in span.days():
        longer = Span(day.start, day.end + GRACE)
        selections = read_selections(clickhouse, scope, longer)
        completions = read_completions(clickhouse, scope, longer) if selections else []
        found = join(selections, completions)
        yield [decision for decision in found if decision.selection.decided_at < day.end]


def join(selections: Sequence[LoggedSelection], completions: Iterable[Completion]) -> list[LoggedDecision]:
    """Each selection, in order of time, with its completions: those that name it; and of those that name none, those
    whose conversation's last selection for their task before them it is. Pure."""
    known = {selection.decision_id for selection in selections}
    talks: dict[tuple[str, str], list[LoggedSelection]] = {}
    for selection in selections:
        talks.setdefault((selection.conversation_id, selection.task), []).append(selection)
    found: dict[UUID, list[Completion]] = {}
    for completion in completions:
        whose = completion.decision_id
        if whose is None:
            whose = _last_before(talks.get((completion.conversation_id, completion.task), ()), completion)
        if whose in known:
            found.setdefault(whose, []).append(completion)
    return [
        LoggedDecision(selection, _outcome(selection, found.get(selection.decision_id, ())))
        for selection in selections
    ]


def _last_before(selections: Sequence[LoggedSelection], completion: Completion) -> UUID | None:
    # Completions are kept by the second in which they ended, so that second counts whole.
    until = completion.occurred_at + timedelta(seconds=1)
    number = bisect_left(selections, until, key=lambda one: one.decided_at)
    return selections[number - 1].decision_id if number else None


def _outcome(selection: LoggedSelection, completions: Sequence[Completion]) -> DecisionOutcome | None:
    if not completions:
        return None
    costs = [completion.cost_usd for completion in completions]
    # Within a second their order is not known: then one that succeeded is taken for the last.
    last = max(completions, key=lambda one: (one.occurred_at, one.success))
    return DecisionOutcome(
        completions=len(completions),
        cost_usd=None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0)),
        success=last.success,
        safety_violation=any(completion.safety_violation for completion in completions),
        escalated=any(completion.escalated for completion in completions),
        elsewhere=any(completion.profile != selection.profile for completion in completions),
    )
