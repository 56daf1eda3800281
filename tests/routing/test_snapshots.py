"""Snapshots from roll-ups: exact, immutable, intact or not used; the bundle that is built from them."""

import zlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection

from catalog.models import Persona, ScopeDefault
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag
from routing import bundle as bundles
from routing.archive import DamagedArchiveError, read_snapshot
from routing.bundle import BundleKeeper
from routing.models import ImmutableError, ScoreSnapshot
from routing.snapshots import (
    Windows,
    newest_id,
    prune,
    read_catalogue,
    score_all,
    store_snapshot,
    write_snapshot,
)
from telemetry.clickhouse import ClickHouse
from tests import factories
from tests.factories import NOW
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db


def events(profile: str, count: int, cost: str, tenant: str = "aurora") -> list[dict[str, Any]]:
    return [
        factories.event(profile=profile, tenant=tenant, cost_usd=cost, latency_ms=1000) for _ in range(count)
    ]


def telemetry() -> list[dict[str, Any]]:
    factories.scope()
    factories.tenant("small")
    factories.profile("haiku")
    return [
        *events("gpt-5.4", 50, "0.02"),
        *events("haiku", 60, "0.002"),
        *events("haiku", 3, "0.002", tenant="small"),
    ]


def empty_snapshot(**fields: Any) -> ScoreSnapshot:
    values = {"created_at": NOW, "policy_version": 1, "scopes": 0, "checksum": "x", "payload": b"x"}
    return ScoreSnapshot.objects.create(**{**values, **fields})


def damage(snapshot: ScoreSnapshot) -> None:
    """What the model refuses, done behind its back."""
    payload = zlib.compress(zlib.decompress(bytes(snapshot.payload)).replace(b'"rank":1', b'"rank":2'))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE routing_scoresnapshot SET payload = %s WHERE id = %s", [payload, snapshot.pk])


def test_a_snapshot_holds_every_scope_scored_and_reads_back_equal(clickhouse: ClickHouse) -> None:
    run_pipeline(clickhouse, telemetry(), NOW)
    stored = write_snapshot(clickhouse, NOW)
    told = read_snapshot(ScoreSnapshot.objects.get())
    assert (told.id, told.created_at, stored.scopes) == (str(stored.pk), NOW, 2)
    aurora = told.scopes["aurora", "essayist"]
    assert [card.profile for card in aurora.ranked] == ["haiku", "gpt-5.4"]
    by_profile = {card.profile: card for card in aurora.scorecards}
    assert (by_profile["haiku"].requests, by_profile["haiku"].borrowed) == (60, False)
    assert by_profile["haiku"].cost_per_completion == Decimal("0.002")
    small = {card.profile: card for card in told.scopes["small", "essayist"].scorecards}
    assert (small["haiku"].requests, small["haiku"].borrowed) == (63, True)
    assert told.persona_scopes["essayist"].as_of == NOW


def test_a_tenant_with_a_default_of_its_own_is_measured_by_it(clickhouse: ClickHouse) -> None:
    run_pipeline(clickhouse, telemetry(), NOW)
    ScopeDefault.objects.create(
        tenant=factories.tenant("small"), persona=factories.persona(), profile=factories.profile("haiku")
    )
    write_snapshot(clickhouse, NOW)
    told = read_snapshot(ScoreSnapshot.objects.get())
    assert told.scopes["small", "essayist"].incumbent == "haiku"
    assert told.scopes["aurora", "essayist"].incumbent == "gpt-5.4"


def test_a_snapshot_without_any_telemetry_is_written_too(clickhouse: ClickHouse) -> None:
    factories.scope()
    assert write_snapshot(clickhouse, NOW).scopes == 0


def test_a_snapshot_is_never_changed() -> None:
    snapshot = empty_snapshot()
    with pytest.raises(ImmutableError):
        snapshot.save()
    with pytest.raises(ImmutableError):
        ScoreSnapshot.objects.update(scopes=1)


def test_a_damaged_snapshot_is_found_and_the_last_good_one_stands(clickhouse: ClickHouse) -> None:
    run_pipeline(clickhouse, telemetry(), NOW)
    good = write_snapshot(clickhouse, NOW)
    keeper = BundleKeeper(refresh_seconds=0)
    assert keeper.current().snapshot is not None
    bad = write_snapshot(clickhouse, NOW + timedelta(minutes=1))
    damage(bad)
    with pytest.raises(DamagedArchiveError, match="checksum"):
        read_snapshot(ScoreSnapshot.objects.get(pk=bad.pk))
    told = keeper.current().snapshot
    assert told is not None
    assert told.id == str(good.pk)


def test_a_process_that_starts_with_damaged_snapshots_takes_the_last_good_one() -> None:
    factories.scope()
    good = store_snapshot(score_all(read_catalogue(), Windows({}, {})), 1, NOW - timedelta(minutes=3))
    for minutes in (2, 1):
        empty_snapshot(created_at=NOW - timedelta(minutes=minutes))  # its bytes cannot be unpacked
    told = BundleKeeper(refresh_seconds=0).current().snapshot
    assert told is not None
    assert told.id == str(good.pk)


def test_of_many_snapshots_the_newest_alone_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.scope()
    for minutes in (3, 2, 1):
        newest = store_snapshot(
            score_all(read_catalogue(), Windows({}, {})), 1, NOW - timedelta(minutes=minutes)
        )
    loaded, load = [], ScoreSnapshot.from_db

    def from_db(*row: Any) -> ScoreSnapshot:
        loaded.append(load(*row))
        return loaded[-1]

    monkeypatch.setattr(ScoreSnapshot, "from_db", from_db)
    assert BundleKeeper(refresh_seconds=0).current().snapshot is not None
    assert loaded == [newest]


def test_bytes_that_cannot_be_unpacked_are_damage_too() -> None:
    with pytest.raises(DamagedArchiveError, match="unpacked"):
        read_snapshot(empty_snapshot())


def test_pruning_keeps_the_newest_whatever_its_age() -> None:
    for days in (30, 20, 10):
        empty_snapshot(created_at=NOW - timedelta(days=days))
    assert prune(NOW - timedelta(days=15)) == 2
    assert prune(NOW) == 0
    assert ScoreSnapshot.objects.count() == 1
    assert newest_id() is not None


def test_a_bundle_is_read_again_only_after_a_change_and_at_most_every_refresh_time(
    django_assert_num_queries: Any,
) -> None:
    factories.scope()
    clock = [0.0]
    keeper = BundleKeeper(refresh_seconds=2, monotonic=lambda: clock[0])
    first = keeper.current()
    Flag.objects.filter(name=AUTO_MODEL_SELECTION).first().save()
    with django_assert_num_queries(0):
        assert keeper.current() is first
    clock[0] = 2.0
    second = keeper.current()
    assert second.version != first.version
    clock[0] = 4.0
    with django_assert_num_queries(2):
        assert keeper.current() is second


def test_while_the_database_is_away_the_last_bundle_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.scope()
    keeper = BundleKeeper(refresh_seconds=0)
    first = keeper.current()

    def away() -> int:
        raise DatabaseError("gone")

    monkeypatch.setattr(bundles, "current_version", away)
    assert keeper.current() is first
    with pytest.raises(DatabaseError):
        BundleKeeper(refresh_seconds=0).current()


@pytest.mark.parametrize("lends", [True, False])
def test_a_record_under_other_personas_proves_what_few_samples_alone_do_not(
    clickhouse: ClickHouse, settings: Any, lends: bool
) -> None:
    settings.PERSONAS_LEND = lends
    factories.scope()
    factories.persona("coder")
    # How often anything is unsafe under a persona it must show itself: 30 samples speak for no small limit.
    Persona.objects.update(max_safety_violation_rate="0.2")
    for slug in ("cheap", "other"):
        factories.profile(slug)
    told = [
        factories.event(
            profile=profile, persona=persona, cost_usd=cost, latency_ms=1000, success=number % 5 > 0
        )
        for profile, cost in (("gpt-5.4", "0.01"), ("cheap", "0.001"), ("other", "0.002"))
        for persona, count in (("coder", 200), ("essayist", 25))
        for number in range(count)
    ]
    run_pipeline(clickhouse, told, NOW)
    snapshot = read_snapshot(write_snapshot(clickhouse, NOW))
    cards = {card.profile: card for card in snapshot.scopes["aurora", "essayist"].scorecards}
    assert (cards["cheap"].eligible, cards["cheap"].requests) == (lends, 25)
    assert ("lent by other personas" in cards["cheap"].gates[0].sentence()) is lends
