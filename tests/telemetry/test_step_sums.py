"""Both arms of a step, by conversation, on both engines."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from telemetry.clickhouse import ClickHouse
from telemetry.step_sums import LOOKBACK, SETTLING, ConversationSums, Reasons, StepSums, read_step
from tests.telemetry.test_arms import NOW, ON_A_SERVER, completion, decide, decision, report

pytestmark = pytest.mark.django_db

BEGAN = NOW - timedelta(hours=3)
REASONS = Reasons(
    control=("flag_off", "holdout"),
    treated=("ranked", "explore", "telemetry_stale"),
    blind=("telemetry_stale",),
)
LIMITS = {"essayist": 2_000, "coder": 500}


def step(clickhouse: ClickHouse, limits: dict[str, int] = LIMITS, until: datetime = NOW) -> StepSums:
    return read_step(clickhouse, "aurora", limits, BEGAN, until, REASONS)


def counted(clickhouse: ClickHouse, **options: Any) -> tuple[int, int]:
    found = step(clickhouse, **options)
    return found.treated.conversations, found.control.conversations


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


def talk(clickhouse: ClickHouse, conversation: str, reason: str, minutes: float = 30, **fields: Any) -> None:
    """One decision, and one completion of it."""
    scope = {name: fields[name] for name in ("tenant", "persona") if name in fields}
    decide(clickhouse, [decision(conversation, reason, at(minutes), **scope)])
    report(clickhouse, [completion(conversation, at=at(minutes), **fields)])


def test_shares_of_conversations_by_hand(clickhouse: ClickHouse) -> None:
    decide(
        clickhouse,
        [
            decision("c-1", "ranked", at(10)),
            decision("c-1", "ranked", at(20)),
            decision("c-2", "holdout", at(10)),
        ],
    )
    half = completion("c-1", at=at(11), success=0, safety_violation=1, escalated=1, latency_ms=2001)
    report(
        clickhouse,
        [
            half,
            {**half, "received_us": 2},
            completion("c-1", at=at(21), latency_ms=2000),
            completion("c-2", at=at(12)),
        ],
    )
    found = step(clickhouse)
    assert found.treated == ConversationSums(
        1,
        {"success": 0.5, "safety_violations": 0.5, "escalations": 0.5, "slow": 0.5},
        {"success": 0.25, "safety_violations": 0.25, "escalations": 0.25, "slow": 0.25},
    )
    assert found.control.sums == {"success": 1.0, "safety_violations": 0.0, "escalations": 0.0, "slow": 0.0}
    assert found.newest == at(21).replace(microsecond=0)


def test_a_conversation_stands_in_the_arm_of_its_first_decision_in_the_step(clickhouse: ClickHouse) -> None:
    talk(clickhouse, "switched", "flag_off", 30)
    talk(clickhouse, "switched", "ranked", 31)
    talk(clickhouse, "older", "ranked", -60)
    talk(clickhouse, "older", "ranked", 30)
    talk(clickhouse, "locked", "override_lock", 30)
    talk(clickhouse, "locked", "ranked", 31)
    talk(clickhouse, "killed", "kill_switch", 30)
    talk(clickhouse, "new", "ranked", 179)
    talk(clickhouse, "foreign", "ranked", 30, tenant="borealis")
    decide(clickhouse, [decision("silent", "ranked", at(30))])
    report(clickhouse, [completion("undecided", at=at(30))])
    assert counted(clickhouse) == (0, 1)
    # What began just now counts once it has settled.
    assert counted(clickhouse, until=at(179) + SETTLING + timedelta(seconds=1)) == (1, 1)


def test_five_minutes_without_metrics_to_steer_by_count_for_neither_arm(clickhouse: ClickHouse) -> None:
    for reason in ("ranked", "flag_off"):
        talk(clickhouse, f"before-{reason}", reason, 20)
        talk(clickhouse, f"then-{reason}", reason, 31)
        talk(clickhouse, f"coder-{reason}", reason, 31, persona="coder")
    assert counted(clickhouse) == (3, 3)
    talk(clickhouse, "blind", "telemetry_stale", 30)
    assert counted(clickhouse) == (2, 2)


@ON_A_SERVER
def test_only_the_personas_that_are_named_count_each_with_its_own_limit(clickhouse: ClickHouse) -> None:
    for persona in ("essayist", "coder", "other"):
        talk(clickhouse, persona, "ranked", persona=persona, latency_ms=1000)
    assert step(clickhouse).treated.sums["slow"] == 1.0
    assert counted(clickhouse) == (2, 0)
    assert counted(clickhouse, limits={"coder": 500}) == (1, 0)
    assert counted(clickhouse, limits={}) == (0, 0)


@ON_A_SERVER
def test_an_empty_step_is_nothing_and_no_zero_is_divided_by(clickhouse: ClickHouse) -> None:
    found = step(clickhouse)
    assert (found.treated.conversations, found.control.conversations, found.newest) == (0, 0, None)
    talk(clickhouse, "older", "ranked", -LOOKBACK.total_seconds() / 60 + 1)
    assert step(clickhouse, until=BEGAN).newest is None
