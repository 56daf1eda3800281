"""Selections joined with what came of them."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from routing.events import publish
from routing.logged.completions import Completion
from routing.logged.decisions import DecisionOutcome, decisions_by_day, join
from routing.logged.scope import Scope, Span
from routing.logged.selections import LoggedSelection, read_selections
from routing.models import Selection
from telemetry.clickhouse import ClickHouse
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope
from tests.telemetry.pipeline import run_pipeline

NOW = datetime(2026, 11, 20, 12, 0, 30, 500_000, tzinfo=UTC)
HERE = Scope("aurora", "essayist")


def selection(at: datetime = NOW, **fields: Any) -> LoggedSelection:
    values: dict[str, Any] = {
        "task": "essay",
        "conversation_id": "c-1",
        "profile": "cheap",
        "reason": "ranked",
        "propensity": 0.9,
        "bundle_version": "1-a.1",
        "exclude": (),
        "last_profile": None,
    }
    return LoggedSelection(decision_id=uuid.uuid4(), decided_at=at, **{**values, **fields})


def completion(of: LoggedSelection | None = None, after: float = 2, **fields: Any) -> Completion:
    """Of a decision, so many seconds after it (NOW when of none), told by the second as ClickHouse keeps it."""
    at = (of.decided_at if of else NOW) + timedelta(seconds=after)
    values: dict[str, Any] = {
        "task": "essay",
        "profile": "cheap",
        "conversation_id": "c-1",
        "success": True,
        "error_code": None,
        "latency_ms": 900,
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "cost_usd": Decimal("0.01"),
        "accuracy": None,
        "escalated": False,
        "safety_violation": False,
    }
    return Completion(
        event_id=uuid.uuid4(),
        occurred_at=at.replace(microsecond=0),
        decision_id=of.decision_id if of else None,
        **{**values, **fields},
    )


def outcomes(selections: Sequence[LoggedSelection], *completions: Completion) -> list[DecisionOutcome | None]:
    return [decision.outcome for decision in join(selections, completions)]


def test_a_decisions_completions_name_it() -> None:
    one, other = selection(), selection(NOW + timedelta(seconds=5))
    assert outcomes([one, other], completion(other, success=False), completion(one)) == [
        DecisionOutcome(1, Decimal("0.01"), True, False, False, False),
        DecisionOutcome(1, Decimal("0.01"), False, False, False, False),
    ]


def test_fallbacks_are_part_of_what_a_decision_led_to() -> None:
    one = selection()
    failed = completion(
        one, 1, success=False, error_code="timeout", cost_usd=Decimal("0.002"), escalated=True
    )
    stood_in = completion(one, 4, profile="incumbent", cost_usd=Decimal("0.02"), safety_violation=True)
    assert outcomes([one], stood_in, failed) == [DecisionOutcome(2, Decimal("0.022"), True, True, True, True)]
    again = completion(one, 9, success=False)
    assert [found and found.success for found in outcomes([one], failed, stood_in, again)] == [False]


def test_one_unknown_cost_leaves_the_decisions_cost_unknown() -> None:
    one = selection()
    [found] = outcomes([one], completion(one), completion(one, cost_usd=None))
    assert found is not None
    assert found.cost_usd is None


def test_without_a_decisions_name_the_conversations_last_one_for_the_task_before_it_counts() -> None:
    first, second = selection(), selection(NOW + timedelta(seconds=60))
    code, other = selection(task="code"), selection(conversation_id="c-2")
    found = outcomes([first, code, other, second], completion(after=59), completion(after=61, success=False))
    assert [one and one.success for one in found] == [True, None, None, False]
    # Ended in the second in which the decision was made, which is kept without its fraction: after it.
    assert [one is not None for one in outcomes([first], completion(after=0))] == [True]
    assert outcomes([first], completion(after=-1)) == [None]


def test_a_completion_of_a_decision_that_is_not_there_is_nobodys() -> None:
    assert outcomes([selection()], completion(selection())) == [None]


def asked(client: Client, count: int, **fields: Any) -> list[dict[str, Any]]:
    key = factories.key("select")
    return [
        client.post(
            "/api/v1/selections",
            {**ASKED, "conversation_id": f'c "last_profile":"x"-{n}', "task": "essay", **fields},
            content_type="application/json",
            headers=key,
        ).json()
        for n in range(count)
    ]


@pytest.mark.django_db
def test_they_are_read_once_each_and_of_the_scope_alone(client: Client, door: ClickHouse) -> None:
    ranked_scope()
    factories.persona("coder", default_profile=factories.profile("incumbent"))
    start = timezone.now() - timedelta(seconds=2)
    told = asked(client, 2) + asked(client, 1, exclude=["cheap"])
    asked(client, 1, persona="coder")
    while publish(door, most=100):
        pass
    Selection.objects.update(in_clickhouse=False)  # killed before it was marked: sent twice
    publish(door, most=100)
    span = Span.of(start, timezone.now() + timedelta(seconds=1))
    read = read_selections(door, HERE, span)
    assert [str(one.decision_id) for one in read] == [one["decision_id"] for one in told]
    assert [(one.profile, one.exclude, one.last_profile) for one in read] == [
        ("cheap", (), None),
        ("cheap", (), None),
        ("incumbent", ("cheap",), "cheap"),
    ]
    assert read[0].conversation_id == 'c "last_profile":"x"-0'
    assert read[0].decided_at == datetime.fromisoformat(told[0]["decided_at"])

    now = timezone.now()
    events = [
        factories.event(
            occurred_at=now.isoformat(),
            profile=one["profile"]["slug"],
            conversation_id=one["conversation_id"],
            task="essay",
            decision_id=one["decision_id"],
            success=n > 0,
        )
        for n, one in enumerate(told[:2])
    ]
    run_pipeline(door, events, now)
    days = list(decisions_by_day(door, HERE, span))
    found = [one for day in days for one in day]
    assert [one.outcome and one.outcome.success for one in found] == [False, True, None]
    assert list(decisions_by_day(door, Scope("borealis", "essayist"), span)) == [[] for _ in days]


def test_a_completion_after_midnight_counts_for_the_decision_before_it() -> None:
    class Door:
        """Answers as ClickHouse would, of one decision before midnight and its completion after it."""

        made = selection(datetime(2026, 11, 19, 23, 59, 59, tzinfo=UTC))
        came = completion(made, 30)

        def query(self, sql: str, params: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
            assert timeout > 10
            if "FROM selections" in sql:
                row = asdict(self.made)
                at = row.pop("decided_at")
                row |= {"decided_us": int(at.timestamp() * 1e6), "exclude": "[]", "last_profile": "null"}
            else:
                row, at = asdict(self.came), self.came.occurred_at
            return [row] if params["start"] <= at < params["end"] else []

    door: Any = Door()
    days = list(decisions_by_day(door, HERE, Span.of(NOW - timedelta(days=1), NOW)))
    assert [[one.outcome is not None for one in day] for day in days] == [[True], []]
