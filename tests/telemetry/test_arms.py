"""The holdout's arms by day equal an independent oracle, whatever happens to events on their way."""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from telemetry import arms
from telemetry.arm_sums import Arm, ArmDay, ArmSums, add
from telemetry.arms import TooManyRows, read_arms, update_arms
from telemetry.clickhouse import ClickHouse
from telemetry.events import COLUMNS
from telemetry.retention import apply_retention
from tests.telemetry.engines import NATIVE

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, 32, 30, tzinfo=UTC)
DAY = datetime(2026, 11, 20, tzinfo=UTC)
#: Of what the others have shown to be the same on both engines, the faster one.
ON_A_SERVER = pytest.mark.parametrize("clickhouse_url", [NATIVE], indirect=True)
CONTROL, TREATED = ("holdout",), ("ranked", "explore")


def completion(
    conversation: str, decision: uuid.UUID | None = None, at: datetime = NOW, **fields: Any
) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "occurred_at": at,
        "tenant": "aurora",
        "persona": "essayist",
        "task": "essay",
        "profile": "gpt-5.4",
        "conversation_id": conversation,
        "decision_id": None if decision is None else str(decision),
        "success": 1,
        "error_code": None,
        "latency_ms": 1000,
        "latency_bucket": 80,
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "cached_tokens": None,
        "cost_usd": Decimal("0.002"),
        "cost_source": "reported",
        "accuracy": None,
        "escalated": 0,
        "safety_violation": 0,
        "served_model": None,
        "served_other": 0,
        "schema_version": 1,
        "received_us": 1,
        **fields,
    }


def decision(conversation: str, reason: str, at: datetime = NOW, **fields: Any) -> dict[str, Any]:
    return {
        "decision_id": uuid.uuid4(),
        "decided_at": at,
        "tenant": "aurora",
        "persona": "essayist",
        "task": "essay",
        "conversation_id": conversation,
        "reason": reason,
        **fields,
    }


def report(clickhouse: ClickHouse, completions: Iterable[dict[str, Any]]) -> None:
    rows = list(completions)
    columns = (*COLUMNS, "received_us")
    clickhouse.insert("completions", columns, [[row[name] for name in columns] for row in rows])


def decide(clickhouse: ClickHouse, decisions: Iterable[dict[str, Any]]) -> None:
    rows = [
        {
            "decided_us": int(row["decided_at"].timestamp() * 1_000_000),
            "profile": "gpt-5.4",
            "provider": "openai",
            "model": "gpt-5.4",
            "propensity": 1.0,
            "source": "remote",
            "replay": "equal",
            "bundle_version": "v1",
            "freshness": "fresh",
            "event": "{}",
            **row,
            "decision_id": str(row["decision_id"]),
        }
        for row in decisions
    ]
    columns = tuple(rows[0])
    clickhouse.insert("selections", columns, [[row[name] for name in columns] for row in rows])


def update(clickhouse: ClickHouse, now: datetime = NOW, first: datetime = DAY) -> list[datetime]:
    return update_arms(clickhouse, first, now, control=CONTROL, treated=TREATED)


def stored(clickhouse: ClickHouse, **options: Any) -> list[ArmDay]:
    start = options.pop("start", DAY - timedelta(days=5))
    return list(read_arms(clickhouse, start, DAY + timedelta(days=1), most=10_000, **options))


def by_arm(clickhouse: ClickHouse) -> dict[Arm, ArmSums]:
    found: dict[Arm, list[ArmSums]] = defaultdict(list)
    for row in stored(clickhouse):
        found[row.arm].append(row.sums)
    return {arm: add(parts) for arm, parts in found.items()}


def test_a_conversation_of_two_completions_by_hand(clickhouse: ClickHouse) -> None:
    asked = [decision("c-1", "holdout"), decision("c-1", "holdout")]
    decide(clickhouse, asked)
    report(
        clickhouse,
        [
            completion("c-1", asked[0]["decision_id"], escalated=1),
            completion("c-1", asked[1]["decision_id"], success=0, cost_usd=None),
            completion("c-1", asked[1]["decision_id"], safety_violation=1, cost_usd=Decimal("0.004")),
        ],
    )
    assert update(clickhouse) == [DAY]
    [row] = stored(clickhouse)
    assert (row.day, row.tenant, row.persona, row.task, row.arm) == (
        DAY,
        "aurora",
        "essayist",
        "essay",
        Arm.CONTROL,
    )
    assert row.sums == ArmSums(
        conversations=1,
        completions=3,
        successes=2,
        escalations=1,
        safety_violations=1,
        completions_squared=9,
        successes_squared=4,
        escalations_squared=1,
        safety_violations_squared=1,
        completions_successes=6,
        completions_escalations=3,
        completions_safety_violations=3,
        priced_conversations=1,
        priced=2,
        priced_squared=4,
        cost_usd=Decimal("0.006"),
        cost_squared=pytest.approx(0.000036),  # type: ignore[arg-type]
        priced_cost=pytest.approx(0.012),  # type: ignore[arg-type]
    )


def test_a_completion_without_a_decision_takes_its_conversation_s_arm_where_all_agree(
    clickhouse: ClickHouse,
) -> None:
    cases: list[tuple[list[str], Arm]] = [
        (["holdout"], Arm.CONTROL),
        (["ranked"], Arm.TREATED),
        (["explore", "ranked"], Arm.TREATED),
        (["override_lock"], Arm.OUTSIDE),
        (["holdout", "ranked"], Arm.UNDECIDED),  # its share was changed: nobody can say
        (["flag_off", "ranked"], Arm.UNDECIDED),
        ([], Arm.UNDECIDED),
    ]
    long_before = NOW - timedelta(hours=40)
    for number, (reasons, _) in enumerate(cases):
        conversation, task = f"c-{number}", f"case-{number}"
        if reasons:
            decide(clickhouse, [decision(conversation, reason, long_before) for reason in reasons])
        report(
            clickhouse,
            [completion(conversation, some, task=task) for some in (None, uuid.uuid4())],
        )
    update(clickhouse)
    assert [(row.task, row.arm, row.sums.completions) for row in stored(clickhouse)] == [
        (f"case-{number}", arm, 2) for number, (_, arm) in enumerate(cases)
    ]


@ON_A_SERVER
def test_a_conversation_whose_share_changed_is_in_both_arms_by_its_decisions(clickhouse: ClickHouse) -> None:
    before, after = decision("c-1", "ranked"), decision("c-1", "holdout")
    decide(clickhouse, [before, after])
    report(clickhouse, [completion("c-1", one["decision_id"]) for one in (before, after, after)])
    update(clickhouse)
    found = by_arm(clickhouse)
    assert (found[Arm.TREATED].completions, found[Arm.CONTROL].completions) == (1, 2)
    assert found[Arm.CONTROL].completions_squared == 4


@ON_A_SERVER
def test_a_decision_of_another_tenant_persona_or_conversation_says_nothing(clickhouse: ClickHouse) -> None:
    ours = uuid.uuid4()
    decide(
        clickhouse,
        [
            decision("c-1", "holdout", decision_id=ours, tenant="borealis"),
            decision("c-1", "holdout", decision_id=ours, persona="coder"),
            decision("c-2", "holdout", decision_id=ours),
        ],
    )
    report(clickhouse, [completion("c-1", ours)])
    update(clickhouse)
    assert list(by_arm(clickhouse)) == [Arm.UNDECIDED]


def test_a_conversation_stands_whole_under_the_task_it_began_with(clickhouse: ClickHouse) -> None:
    asked = decision("c-1", "ranked")
    decide(clickhouse, [asked])
    later, earlier = NOW, NOW - timedelta(minutes=20)
    report(
        clickhouse,
        [
            completion("c-1", asked["decision_id"], later, task="code"),
            completion("c-1", asked["decision_id"], earlier, task="essay"),
        ],
    )
    update(clickhouse)
    assert [(row.task, row.sums.completions) for row in stored(clickhouse)] == [("essay", 2)]


def scattered(seed: int, days: int = 3) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Random conversations of a few completions over some days, and their decisions."""
    chance = random.Random(seed)
    completions, decisions = [], []
    for number in range(120):
        scope = {
            "tenant": chance.choice(["aurora", "borealis"]),
            "persona": chance.choice(["essayist", "coder"]),
        }
        reason = chance.choice(["holdout", "ranked", "explore", "flag_off"])
        began = NOW - timedelta(seconds=chance.randrange(0, days * 86_400))
        for _ in range(chance.randrange(1, 5)):
            told = decision(f"c-{number}", reason, began, **scope)
            decisions.append(told)
            completions.append(
                completion(
                    f"c-{number}",
                    told["decision_id"] if chance.random() < 0.7 else None,
                    began,
                    task=chance.choice(["essay", "code"]) if number % 2 else "essay",
                    success=int(chance.random() < 0.7),
                    escalated=int(chance.random() < 0.2),
                    safety_violation=int(chance.random() < 0.1),
                    cost_usd=chance.choice([None, Decimal(chance.randrange(10**7)) / 10**9]),
                    **scope,
                )
            )
            began += timedelta(seconds=chance.randrange(1, 400))
    return [row for row in completions if row["occurred_at"] <= NOW], decisions


ARMS = {"holdout": Arm.CONTROL, "ranked": Arm.TREATED, "explore": Arm.TREATED, "flag_off": Arm.OUTSIDE}


def oracle(
    completions: list[dict[str, Any]], decisions: list[dict[str, Any]]
) -> dict[tuple[Any, ...], ArmSums]:
    """The same the plain way. A conversation of ``scattered`` has one reason."""
    arm_of = {row["conversation_id"]: ARMS[row["reason"]] for row in decisions}
    conversations: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in {row["event_id"]: row for row in completions}.values():
        day = row["occurred_at"].replace(hour=0, minute=0, second=0)
        conversations[day, row["tenant"], row["persona"], row["conversation_id"]].append(row)
    cells: dict[tuple[Any, ...], list[ArmSums]] = defaultdict(list)
    for (day, tenant, persona, conversation), rows in conversations.items():
        m = len(rows)
        s, e, v = (sum(row[name] for row in rows) for name in ("success", "escalated", "safety_violation"))
        costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
        p, c = len(costs), sum(costs, Decimal(0))
        first = min((row["occurred_at"], row["task"]) for row in rows)
        sums = ArmSums(
            *(1, m, s, e, v, m * m, s * s, e * e, v * v, m * s, m * e, m * v),
            *(int(p > 0), p, p * p, c, float(c) ** 2, p * float(c)),
        )
        cells[day, tenant, persona, first[1], arm_of[conversation]].append(sums)
    return {key: add(parts) for key, parts in cells.items()}


def assert_equal_to_oracle(
    clickhouse: ClickHouse, completions: list[dict[str, Any]], decisions: list[dict[str, Any]]
) -> None:
    expected = oracle(completions, decisions)
    found = {
        (row.day, row.tenant, row.persona, row.task, row.arm): row.sums
        for row in stored(clickhouse, start=DAY - timedelta(days=9))
    }
    assert found.keys() == expected.keys()
    for key, sums in expected.items():
        assert astuple(found[key])[:-2] == astuple(sums)[:-2]
        assert found[key].cost_squared == pytest.approx(sums.cost_squared)
        assert found[key].priced_cost == pytest.approx(sums.priced_cost)


def test_sums_are_exact_under_duplicates_disorder_late_events_and_late_decisions(
    clickhouse: ClickHouse,
) -> None:
    completions, decisions = scattered(1)
    sent = completions * 3
    random.Random(7).shuffle(sent)
    half = len(sent) // 2
    first = DAY - timedelta(days=4)
    report(clickhouse, sent[:half])
    update(clickhouse, first=first)
    decide(clickhouse, decisions * 2)
    update(clickhouse, first=first)
    report(clickhouse, sent[half:])
    assert len(update(clickhouse, first=first)) >= 3
    assert_equal_to_oracle(clickhouse, completions, decisions)


@ON_A_SERVER
def test_only_days_that_changed_are_recomputed(clickhouse: ClickHouse) -> None:
    completions, decisions = scattered(2)
    report(clickhouse, completions)
    decide(clickhouse, decisions)
    first = DAY - timedelta(days=4)
    assert len(update(clickhouse, first=first)) >= 3
    assert update(clickhouse, first=first) == []
    late = completion("late", None, NOW - timedelta(hours=47))
    report(clickhouse, [late])
    assert update(clickhouse, first=first) == [DAY - timedelta(days=2)]


@ON_A_SERVER
def test_a_run_killed_before_it_wrote_is_done_by_the_next(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    completions, decisions = scattered(3)
    report(clickhouse, completions)
    decide(clickhouse, decisions)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    first = DAY - timedelta(days=4)
    with monkeypatch.context() as patch:
        patch.setattr(arms, "next_version", killed)
        with pytest.raises(KeyboardInterrupt):
            update(clickhouse, first=first)
    with pytest.raises(KeyboardInterrupt):  # after the first day
        update_arms(clickhouse, first, NOW, control=CONTROL, treated=TREATED, renew=killed)
    update(clickhouse, first=first)
    assert_equal_to_oracle(clickhouse, completions, decisions)


@ON_A_SERVER
def test_a_resent_event_that_moved_to_another_task_leaves_nothing_behind(clickhouse: ClickHouse) -> None:
    asked = decision("c-1", "ranked")
    decide(clickhouse, [asked])
    sent = completion("c-1", asked["decision_id"])
    report(clickhouse, [sent])
    update(clickhouse)
    report(clickhouse, [{**sent, "task": "code", "received_us": 2}])
    update(clickhouse)
    assert [(row.task, row.sums.completions) for row in stored(clickhouse)] == [("code", 1)]


@ON_A_SERVER
def test_days_whose_raw_events_are_gone_keep_their_sums(clickhouse: ClickHouse) -> None:
    asked = decision("c-1", "ranked")
    decide(clickhouse, [asked])
    report(clickhouse, [completion("c-1", asked["decision_id"])])
    update(clickhouse)
    clickhouse.execute("ALTER TABLE completions DROP PARTITION 20261120")
    assert update(clickhouse) == []
    assert len(stored(clickhouse)) == 1


def test_costs_are_summed_to_the_billionth_of_a_dollar(clickhouse: ClickHouse) -> None:
    asked = decision("c-1", "ranked")
    decide(clickhouse, [asked])
    costs = [Decimal("100000"), Decimal("99999.999999999"), Decimal("0.000000001"), Decimal(0), None]
    report(clickhouse, [completion("c-1", asked["decision_id"], cost_usd=cost) for cost in costs])
    update(clickhouse)
    [row] = stored(clickhouse)
    assert (row.sums.cost_usd, row.sums.priced) == (Decimal(200_000), 4)
    assert row.sums.cost_squared == pytest.approx(4e10)


@pytest.mark.slow
def test_a_day_of_very_many_is_summed_up_and_then_rests(clickhouse: ClickHouse) -> None:
    """Arrays of decimals crashed 18.16 from 100,000 completions on."""
    text = "leftPad(toString(number), 12, '0')"
    if clickhouse.version() < (20, 1):
        text = "substring(concat('000000000000', toString(number)), length(toString(number)) + 1, 12)"
    clickhouse.execute(
        f"""
        INSERT INTO completions (event_id, occurred_at, received_us, tenant, persona, task, profile,
            conversation_id, decision_id, success, latency_ms, cost_usd, schema_version)
        SELECT toUUID(concat('00000000-0000-0000-0000-', {text})), toDateTime(%(day)s, 'UTC') + intDiv(number, 4),
            1, 'aurora', 'essayist', 'essay', 'gpt-5.4', toString(intDiv(number, 3)),
            toUUID(concat('00000000-0000-0000-0001-', {text})), 1, 1, toDecimal64(1, 9) / 8, 1
        FROM numbers(150000)
        """,
        {"day": DAY},
    )
    clickhouse.execute(
        f"""
        INSERT INTO selections (decision_id, decided_at, tenant, persona, conversation_id, reason)
        SELECT toUUID(concat('00000000-0000-0000-0001-', {text})), toDateTime(%(day)s, 'UTC') + intDiv(number, 4),
            'aurora', 'essayist', toString(intDiv(number, 3)), if(intDiv(number, 3) %% 50 = 0, 'holdout', 'ranked')
        FROM numbers(150000)
        """,
        {"day": DAY},
    )
    update(clickhouse)
    found = by_arm(clickhouse)
    assert [(arm, found[arm].conversations, found[arm].completions_squared) for arm in sorted(found)] == [
        (Arm.CONTROL, 1_000, 9_000),
        (Arm.TREATED, 49_000, 441_000),
    ]
    assert found[Arm.CONTROL].cost_usd == 375
    report(clickhouse, [completion("late")])
    assert update(clickhouse, NOW + timedelta(seconds=50)) == []
    assert update(clickhouse, NOW + timedelta(seconds=51)) == [DAY]


def test_retention_drops_whole_months(clickhouse: ClickHouse) -> None:
    days = [datetime(2026, month, 5, tzinfo=UTC) for month in (8, 9, 11)]
    for day in days:
        asked = decision("c-1", "ranked", day)
        decide(clickhouse, [asked])
        report(clickhouse, [completion("c-1", asked["decision_id"], day)])
    update(clickhouse, first=days[0])
    dropped = apply_retention(clickhouse, NOW, {"arms_24h": 60})
    assert [(one.table, one.partition) for one in dropped] == [("arms_24h", 202608)]
    assert [row.day for row in stored(clickhouse, start=days[0])] == days[1:]


@ON_A_SERVER
def test_reading_is_limited_to_tenants_personas_and_rows(clickhouse: ClickHouse) -> None:
    completions, decisions = scattered(4)
    report(clickhouse, completions)
    decide(clickhouse, decisions)
    update(clickhouse, first=DAY - timedelta(days=4))
    everything = stored(clickhouse)
    mine = stored(clickhouse, tenants=["aurora"], personas=["coder"])
    assert mine == [row for row in everything if (row.tenant, row.persona) == ("aurora", "coder")]
    assert mine
    assert stored(clickhouse, tenants=[]) == []
    with pytest.raises(TooManyRows):
        read_arms(clickhouse, DAY - timedelta(days=5), DAY + timedelta(days=1), most=len(everything) - 1)
