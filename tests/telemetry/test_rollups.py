"""Roll-ups equal an independent oracle exactly, whatever happens to the events on their way."""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from telemetry import metrics, rollups, spool
from telemetry.clickhouse import ClickHouse, ClickHouseUnavailable
from telemetry.histogram import BUCKETS, bucket_of
from telemetry.ingest import accept
from telemetry.models import DirtyBucket, RollupClock, ScopeActivity, SpoolBatch
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db

Cell = tuple[datetime, str, str, str, str]


def make_events(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Random events of the last 48 h, in six scopes; some unpriced, ungraded, late, violating."""
    for slug in ("aurora", "borealis"):
        factories.tenant(slug)
    for slug in ("essayist", "coder"):
        factories.persona(slug)
    for slug in ("gpt-5.4", "haiku"):
        factories.profile(slug)
    chance = random.Random(seed)
    return [
        factories.event(
            event_id=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            occurred_at=(NOW - timedelta(seconds=chance.randrange(0, 48 * 3600))).isoformat(),
            tenant=chance.choice(["aurora", "borealis"]),
            persona=chance.choice(["essayist", "coder"]),
            profile=chance.choice(["gpt-5.4", "haiku"]),
            task=chance.choice(["essay", "code"]),
            success=chance.random() < 0.8,
            escalated=chance.random() < 0.1,
            safety_violation=chance.random() < 0.05,
            latency_ms=int(chance.lognormvariate(8, 1)),
            prompt_tokens=chance.randrange(0, 5000),
            completion_tokens=chance.randrange(0, 5000),
            cached_tokens=chance.choice([None, 0]),
            cost_usd=chance.choice([None, f"{chance.randrange(0, 10**9) / 10**9:.9f}"]),
            accuracy=chance.choice([None, round(chance.random(), 6)]),
        )
        for _ in range(count)
    ]


def oracle(events: Iterable[dict[str, Any]], seconds: int) -> dict[Cell, dict[str, Any]]:
    """What roll-ups must hold, computed the plain way."""
    cells: dict[Cell, dict[str, Any]] = {}
    for event in {event["event_id"]: event for event in events}.values():
        at = datetime.fromisoformat(event["occurred_at"])
        start = datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
        key = (start, event["tenant"], event["persona"], event["task"], event["profile"])
        cell = cells.setdefault(key, defaultdict(int, latency=[0] * BUCKETS, cost_usd=Decimal(0)))
        cell["requests"] += 1
        cell["successes"] += event["success"]
        cell["escalations"] += event["escalated"]
        cell["safety_violations"] += event["safety_violation"]
        cell["prompt_tokens"] += event["prompt_tokens"]
        cell["completion_tokens"] += event["completion_tokens"]
        cell["cached_tokens"] += event["cached_tokens"] or 0
        cell["latency"][bucket_of(event["latency_ms"])] += 1
        if event["accuracy"] is not None:
            cell["accuracy_count"] += 1
            cell["accuracy_sum"] += Decimal(str(event["accuracy"]))
        if event["cost_usd"] is not None:
            cell["priced"] += 1
            cell["priced_tokens"] += event["prompt_tokens"] + event["completion_tokens"]
            cell["priced_successes"] += event["success"]
            cell["cost_usd"] += Decimal(event["cost_usd"])
    return cells


def stored(clickhouse: ClickHouse, table: str) -> dict[Cell, dict[str, Any]]:
    rows = clickhouse.query(f"SELECT * FROM {table} FINAL WHERE requests > 0")
    return {(row["bucket"], row["tenant"], row["persona"], row["task"], row["profile"]): row for row in rows}


def assert_equal_to_oracle(clickhouse: ClickHouse, events: Iterable[dict[str, Any]]) -> None:
    events = list(events)
    for table, seconds in (("rollup_5m", 300), ("rollup_1h", 3600), ("rollup_24h", 86_400)):
        expected, found = oracle(events, seconds), stored(clickhouse, table)
        assert found.keys() == expected.keys()
        for key, cell in expected.items():
            row = found[key]
            latency = (*row["latency"], *[0] * (BUCKETS - len(row["latency"])))
            assert latency == tuple(cell["latency"])
            for name in (*cell.keys() - {"latency"}, "priced", "accuracy_count", "accuracy_sum"):
                assert row[name] == cell[name], (table, key, name)


def send(clickhouse: ClickHouse, events: list[dict[str, Any]], batch: int = 100) -> None:
    for first in range(0, len(events), batch):
        outcome = accept(events[first : first + batch], source="test", now=NOW, tenants=None)
        assert outcome.rejected == ()
    while spool.drain(clickhouse, NOW, block_rows=250):
        pass


def roll_up(clickhouse: ClickHouse) -> None:
    while rollups.roll_up_dirty(clickhouse, lambda: NOW):
        pass


def test_totals_are_exact_after_tenfold_duplicates_in_any_order_up_to_48_hours_late(
    clickhouse: ClickHouse,
) -> None:
    events = make_events(400)
    sent = events * 10
    random.Random(7).shuffle(sent)
    third = len(sent) // 3
    for part in (sent[:third], sent[third : 2 * third], sent[2 * third :]):
        send(clickhouse, part)
        roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, events)


@pytest.mark.parametrize("most", [1, 40])
def test_many_events_are_counted_in_portions_with_the_same_totals(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(rollups, "EVENTS_AT_ONCE", most)
    events = make_events(200)
    send(clickhouse, events)
    starts = sorted(
        {rollups.floor(datetime.fromisoformat(e["occurred_at"]), rollups._BUCKET) for e in events}
    )
    portions = rollups._portions(clickhouse, starts)
    assert [start for portion in portions for start in portion] == starts
    of = [
        sum(
            rollups.floor(datetime.fromisoformat(e["occurred_at"]), rollups._BUCKET) in portion
            for e in events
        )
        for portion in portions
    ]
    assert all(count <= most or len(portion) == 1 for count, portion in zip(of, portions, strict=True))
    assert len(portions) > 1
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, events)


def test_a_late_event_reopens_only_its_own_bucket_hour_and_day(clickhouse: ClickHouse) -> None:
    events = make_events(50)
    send(clickhouse, events)
    roll_up(clickhouse)
    late = factories.event(
        occurred_at=(NOW - timedelta(hours=47)).isoformat(),
        task="essay",
        escalated=False,
        safety_violation=False,
        cached_tokens=None,
        accuracy=None,
    )
    send(clickhouse, [late])
    assert DirtyBucket.objects.count() == 1
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, [*events, late])


def test_a_drain_killed_before_it_forgot_its_batches_sends_them_again_without_counting_twice(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(60)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spool, "mark_dirty", killed)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                send(clickhouse, events)
    assert SpoolBatch.objects.count() == 3
    send(clickhouse, [])
    roll_up(clickhouse)
    assert clickhouse.query("SELECT count() AS n FROM completions")[0]["n"] >= 60
    assert_equal_to_oracle(clickhouse, events)


def test_a_roll_up_killed_half_way_is_done_again_whole(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(60)
    send(clickhouse, events)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rollups, "remember_activity", killed)
        with pytest.raises(KeyboardInterrupt):
            roll_up(clickhouse)
    assert DirtyBucket.objects.exists()
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, events)


def test_a_bucket_marked_again_while_it_is_rolled_up_stays_marked(
    clickhouse: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = make_events(20)
    send(clickhouse, events)
    late = {**events[0], "event_id": str(uuid.uuid4())}
    remember = rollups.remember_activity

    def meanwhile(*args: Any) -> None:
        remember(*args)
        if late not in events:
            events.append(late)
            send(clickhouse, [late])

    monkeypatch.setattr(rollups, "remember_activity", meanwhile)
    rollups.roll_up_dirty(clickhouse, lambda: NOW)
    assert DirtyBucket.objects.count() == 1
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, events)


def test_a_resent_event_that_moved_to_another_profile_leaves_nothing_behind(clickhouse: ClickHouse) -> None:
    events = make_events(20)
    send(clickhouse, events)
    roll_up(clickhouse)
    moved = {**events[0], "profile": "haiku" if events[0]["profile"] == "gpt-5.4" else "gpt-5.4"}
    accept([moved], source="test", now=NOW + timedelta(seconds=1), tenants=None)
    send(clickhouse, [])
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, [moved, *events[1:]])


def test_two_tenants_may_use_the_same_event_id(clickhouse: ClickHouse) -> None:
    one, *_ = make_events(1)
    other = {**one, "tenant": "borealis" if one["tenant"] == "aurora" else "aurora"}
    send(clickhouse, [one, other])
    roll_up(clickhouse)
    found = stored(clickhouse, "rollup_24h")
    assert sum(row["requests"] for row in found.values()) == 2


def test_versions_never_go_back_even_when_the_clock_does(clickhouse: ClickHouse) -> None:
    first = rollups.next_version(NOW)
    assert rollups.next_version(NOW - timedelta(days=1)) == first + 1
    assert RollupClock.objects.get().last_version == first + 1


def test_a_backfill_restores_roll_ups_from_raw_events(clickhouse: ClickHouse) -> None:
    events = make_events(100)
    send(clickhouse, events)
    DirtyBucket.objects.all().delete()
    progress: list[tuple[int, int]] = []
    done = rollups.backfill(
        clickhouse, NOW - timedelta(days=3), NOW, lambda: NOW, lambda *at: progress.append(at)
    )
    assert done > 0
    assert progress[-1][0] == progress[-1][1]
    assert_equal_to_oracle(clickhouse, events)


@pytest.mark.parametrize("window", list(metrics.Window))
def test_a_trailing_window_is_exact_to_the_five_minute_bucket(
    clickhouse: ClickHouse, window: metrics.Window
) -> None:
    events = make_events(400)
    send(clickhouse, events)
    roll_up(clickhouse)
    span = metrics.trailing(window, NOW)
    assert span.start <= NOW - window.length
    assert span.end >= NOW
    inside = [e for e in events if span.start <= datetime.fromisoformat(e["occurred_at"]) < span.end]
    found = metrics.read_totals(clickhouse, span)
    by_persona = metrics.read_totals(clickhouse, span, by_tenant=False)
    for totals in (found, by_persona):
        assert sum(t.requests for t in totals.values()) == len(inside)
        assert sum(t.cost_usd for t in totals.values()) == sum(Decimal(e["cost_usd"] or 0) for e in inside)
        assert sum(sum(t.latency) for t in totals.values()) == len(inside)
    assert {key.tenant for key in by_persona} <= {None}


def test_the_newest_event_of_each_scope_is_remembered_and_never_goes_back(clickhouse: ClickHouse) -> None:
    events = make_events(100)
    random.Random(3).shuffle(events)
    for part in (events[:50], events[50:]):
        send(clickhouse, part)
        roll_up(clickhouse)
    expected: dict[tuple[str, str], datetime] = {}
    for event in events:
        scope = (event["tenant"], event["persona"])
        expected[scope] = max(
            datetime.fromisoformat(event["occurred_at"]),
            expected.get(scope, datetime.min.replace(tzinfo=UTC)),
        )
    assert {(a.tenant, a.persona): a.last_event_at for a in ScopeActivity.objects.all()} == {
        scope: at.replace(microsecond=0) for scope, at in expected.items()
    }


class Absent(ClickHouse):
    """A ClickHouse that is not there."""

    database, cluster = "x", None

    def _gone(self, *_: Any, **__: Any) -> Any:
        raise ClickHouseUnavailable("not there")

    version = query = stream = execute = insert = ensure_database = close = _gone


def test_while_clickhouse_is_away_everything_waits_in_the_spool_in_order() -> None:
    events = make_events(30)
    for event in events:
        accept([event], source="test", now=NOW, tenants=None)
    with pytest.raises(ClickHouseUnavailable):
        spool.drain(Absent(), NOW, block_rows=1000)
    waiting = spool.backlog()
    assert (waiting.batches, waiting.events, waiting.oldest) == (30, 30, NOW)


def test_one_batch_that_the_engine_refuses_holds_up_no_other(clickhouse: ClickHouse) -> None:
    events = make_events(30)
    for event in events:
        accept([event], source="test", now=NOW, tenants=None)
    poison = SpoolBatch.objects.order_by("id")[10]
    damaged = bytes(poison.payload).replace(events[10]["event_id"].encode(), b"not-an-id")
    SpoolBatch.objects.filter(pk=poison.pk).update(payload=damaged)
    while spool.drain(clickhouse, NOW, block_rows=1000):
        pass
    roll_up(clickhouse)
    assert_equal_to_oracle(clickhouse, events[:10] + events[11:])
    waiting = SpoolBatch.objects.get()
    assert (waiting.pk, waiting.attempts) == (poison.pk, 1)
    assert waiting.error
    assert waiting.next_attempt_at == NOW + timedelta(seconds=2)
    assert spool.backlog().retrying == 1
