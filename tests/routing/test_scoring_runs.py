"""A snapshot scored in parts: the same bytes as in one piece, or none at all, and never older ones over newer ones."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from catalog.models import ScopeDefault
from routing import tasks
from routing.models import ScoreSnapshot, ScoringPart, ScoringRun
from routing.scoring_runs import services as runs
from routing.snapshots import Scored, read_own, write_snapshot
from telemetry.clickhouse import ClickHouse, ClickHouseError
from telemetry.partition import Partition
from tests import factories
from tests.factories import NOW
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(minutes=1)
DEADLINE = timedelta(minutes=4)
NOBODY = Scored({}, {})


def varied(seed: int) -> list[dict[str, Any]]:
    """A catalogue and telemetry: scopes with much, little and none, some with a default of their own."""
    chance = random.Random(seed)
    profiles = [f"p-{n}" for n in range(4)]
    for slug in profiles:
        factories.profile(slug)
    personas = ["coder", "essayist", "tutor"]
    for slug in personas:
        factories.persona(slug, default_profile=factories.profile(chance.choice(profiles)))
    tenants = [f"t-{n}" for n in range(9)]
    events = []
    for slug in tenants:
        tenant = factories.tenant(slug)
        for persona in personas:
            if chance.random() < 0.3:
                own = factories.profile(chance.choice(profiles))
                ScopeDefault.objects.create(tenant=tenant, persona=factories.persona(persona), profile=own)
            for profile in profiles:
                events += [
                    factories.event(
                        tenant=slug,
                        persona=persona,
                        profile=profile,
                        success=chance.random() < 0.9,
                        latency_ms=chance.randint(200, 90_000),
                        cost_usd=chance.choice([None, f"0.0{chance.randint(1, 99)}"]),
                        occurred_at=(NOW - timedelta(minutes=chance.randint(0, 1300))).isoformat(),
                    )
                    for _ in range(chance.choice([0, 0, 3, 12, 40]))
                ]
    return events


def in_parts(clickhouse: ClickHouse, partitions: int, order: random.Random) -> ScoreSnapshot:
    run, missing = runs.begin(clickhouse, NOW, partitions, DEADLINE)
    assert missing == list(range(partitions))
    order.shuffle(missing)
    *none, last = [runs.score_part(clickhouse, run.pk, number) for number in missing]
    assert none == [None] * (partitions - 1)
    assert last is not None
    return last


def begun(partitions: int = 2) -> ScoringRun:
    """A run that needs no ClickHouse."""
    return ScoringRun.objects.create(
        created_at=NOW,
        deadline=NOW + DEADLINE,
        partitions=partitions,
        policy_version=1,
        checksum="",
        payload=b"",
    )


def test_any_number_of_parts_in_any_order_makes_the_bytes_that_one_piece_makes(
    clickhouse: ClickHouse,
) -> None:
    seed = 8
    run_pipeline(clickhouse, varied(seed), NOW)
    whole = write_snapshot(clickhouse, NOW)
    assert whole.scopes > 20
    for partitions in (1, 2, 3, 7, 40):
        stored = in_parts(clickhouse, partitions, random.Random(seed))
        assert (stored.checksum, bytes(stored.payload)) == (whole.checksum, bytes(whole.payload))
        assert (stored.created_at, stored.scopes, stored.policy_version) == (
            whole.created_at,
            whole.scopes,
            whole.policy_version,
        )
    assert ScoreSnapshot.objects.count() == 6
    assert not ScoringRun.objects.exists()
    assert not ScoringPart.objects.exists()


def test_a_part_reads_the_totals_of_its_own_scopes_alone(clickhouse: ClickHouse) -> None:
    run_pipeline(clickhouse, varied(3), NOW)
    whole = read_own(clickhouse, NOW)
    parts = [read_own(clickhouse, NOW, partition=Partition(number, 4)) for number in range(4)]
    assert sum(len(part.day) for part in parts) == len(whole.day)
    for number, part in enumerate(parts):
        for tenant, persona in part.day:
            assert tenant is not None
            assert Partition(number, 4).holds(tenant, persona)
            assert part.day[tenant, persona] == whole.day[tenant, persona]


@given(slugs := st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), slugs, st.integers(1, 256))
def test_every_scope_is_in_exactly_one_part(tenant: str, persona: str, of: int) -> None:
    assert sum(Partition(number, of).holds(tenant, persona) for number in range(of)) == 1


def test_what_changes_in_the_catalogue_while_a_run_is_under_way_waits_for_the_next(
    clickhouse: ClickHouse,
) -> None:
    run_pipeline(clickhouse, varied(5), NOW)
    whole = write_snapshot(clickhouse, NOW)
    run, _ = runs.begin(clickhouse, NOW, 2, DEADLINE)
    runs.score_part(clickhouse, run.pk, 0)
    ScopeDefault.objects.all().delete()
    factories.profile("new")
    stored = runs.score_part(clickhouse, run.pk, 1)
    assert stored is not None
    assert stored.checksum == whole.checksum


def test_a_part_that_comes_twice_counts_once() -> None:
    run = begun()
    assert runs.commit_part(run.pk, 1, NOBODY) is None
    assert runs.commit_part(run.pk, 1, NOBODY) is None
    assert runs.missing(run) == [0]
    assert runs.commit_part(run.pk, 0, NOBODY) is not None
    # Delivered again, after all was done.
    assert runs.commit_part(run.pk, 0, NOBODY) is None
    assert ScoreSnapshot.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_last_parts_at_the_same_time_make_one_snapshot() -> None:
    started = threading.Barrier(4)

    def commit(run: ScoringRun, number: int) -> bool:
        started.wait()
        try:
            return runs.commit_part(run.pk, number, NOBODY) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            ScoreSnapshot.objects.all().delete()
            run = begun(3)
            # One of them is delivered twice.
            stored = list(pool.map(commit, [run] * 4, [0, 1, 2, 2]))
            assert (stored.count(True), ScoreSnapshot.objects.count()) == (1, 1)
            assert not ScoringRun.objects.exists()


def test_whoever_dies_while_putting_parts_together_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = begun()
    runs.commit_part(run.pk, 0, NOBODY)

    def killed(*_: Any) -> Any:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(runs, "store_scores", killed)
        with pytest.raises(SystemExit):
            runs.commit_part(run.pk, 1, NOBODY)
    assert not ScoreSnapshot.objects.exists()
    assert runs.missing(run) == [1]
    assert runs.commit_part(run.pk, 1, NOBODY) is not None


def test_a_run_past_its_deadline_is_superseded_and_its_late_parts_are_dropped(
    clickhouse: ClickHouse, caplog: pytest.LogCaptureFixture
) -> None:
    factories.scope()
    old, _ = runs.begin(clickhouse, NOW, 2, DEADLINE)
    runs.score_part(clickhouse, old.pk, 0)
    assert runs.begin(clickhouse, LATER, 2, DEADLINE) == (old, [1])
    new, missing = runs.begin(clickhouse, NOW + DEADLINE, 2, DEADLINE)
    assert (new.pk > old.pk, missing) == (True, [0, 1])
    assert "dropped unfinished after 240 s: parts 1 of 2 are missing" in caplog.text
    assert runs.score_part(clickhouse, old.pk, 1) is None
    assert runs.commit_part(old.pk, 1, NOBODY) is None
    assert not ScoreSnapshot.objects.exists()
    assert runs.missing(new) == [0, 1]


def test_a_run_that_a_clock_ahead_began_is_superseded_at_once(clickhouse: ClickHouse) -> None:
    factories.scope()
    old, _ = runs.begin(clickhouse, NOW + timedelta(days=1), 2, DEADLINE)
    new, _ = runs.begin(clickhouse, NOW, 2, DEADLINE)
    assert new.pk != old.pk


def test_a_newer_snapshot_is_never_followed_by_an_older_one(
    clickhouse: ClickHouse, caplog: pytest.LogCaptureFixture
) -> None:
    factories.scope()
    run, _ = runs.begin(clickhouse, NOW, 2, DEADLINE)
    runs.score_part(clickhouse, run.pk, 0)
    newer = write_snapshot(clickhouse, LATER)  # by a person's command
    assert runs.score_part(clickhouse, run.pk, 1) is None
    assert ScoreSnapshot.objects.get() == newer
    assert not ScoringRun.objects.exists()
    assert "another snapshot was stored since it began" in caplog.text


def test_a_damaged_part_makes_no_snapshot() -> None:
    run = begun()
    runs.commit_part(run.pk, 0, NOBODY)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE routing_scoringpart SET checksum = 'x'")
    assert runs.commit_part(run.pk, 1, NOBODY) is None
    assert not ScoreSnapshot.objects.exists()
    assert not ScoringRun.objects.exists()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[tuple[int, int]]:
    """The parts that beat's task sent to workers."""
    settings.SCORING_PARTITIONS = 3
    found: list[tuple[int, int]] = []
    monkeypatch.setattr(tasks.score_part, "apply_async", lambda args, **_: found.append(args))
    return found


def test_beat_sends_parts_and_again_only_what_is_missing(
    door: ClickHouse, sent: list[tuple[int, int]]
) -> None:
    factories.scope()
    assert tasks.write_snapshot() is None
    run = ScoringRun.objects.get()
    assert sent == [(run.pk, 0), (run.pk, 1), (run.pk, 2)]
    tasks.score_part(run.pk, 1)
    sent.clear()
    tasks.write_snapshot()
    assert sent == [(run.pk, 0), (run.pk, 2)]
    assert [tasks.score_part(*one) is None for one in sent] == [True, False]
    assert ScoreSnapshot.objects.count() == 1
    tasks.write_snapshot()
    assert ScoringRun.objects.get().pk != run.pk


def test_back_to_one_piece_a_run_that_was_left_behind_goes(
    door: ClickHouse, sent: list[tuple[int, int]], settings: Any
) -> None:
    factories.scope()
    tasks.write_snapshot()
    settings.SCORING_PARTITIONS = 1
    assert tasks.write_snapshot() is not None
    assert not ScoringRun.objects.exists()


def test_while_clickhouse_is_away_no_run_begins_and_parts_stay_missing(
    sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    factories.scope()
    assert tasks.write_snapshot() is None  # nothing listens at the tests' address
    assert (sent, ScoringRun.objects.count()) == ([], 0)

    def away(*_: Any, **__: Any) -> Any:
        raise ClickHouseError("gone")

    run = begun()
    monkeypatch.setattr(runs, "score_part", away)
    assert tasks.score_part(run.pk, 0) is None
    assert runs.missing(run) == [0, 1]
