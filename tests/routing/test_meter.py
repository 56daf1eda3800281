"""The regret meter: what an override has cost or saved, by sums that can be checked by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from overrides.audit import Actor
from overrides.models import Override
from overrides.services import Wish, create_override, replace_override, revoke_override, undo_override
from routing import meter as meters
from routing import metering
from routing.bundle import current_bundle, forget_bundle
from routing.comparing import Key
from routing.meter import Meter, began, read_entries
from routing.metering import measure_standing, regret
from routing.models import OverrideMeter
from routing.regret import Given, Measured, Source, Verdict, add_up, measure
from routing.snapshots import write_snapshot
from routing.tasks import measure_overrides
from telemetry.clickhouse import ClickHouse, ClickHouseTimeout, close_clickhouse, get_clickhouse
from telemetry.totals import Totals
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import flip, ranked_scope
from tests.services import free_ports
from tests.telemetry.pipeline import run_pipeline

ACTOR = Actor("user:ops", "operator")
REASON = "tried in a test, ticket 1"
HERE: dict[str, Any] = {"tenant": "aurora", "persona": "essayist"}
KEY = Key("aurora", "essayist", None)
HOUR = timedelta(hours=1)
COSTS = {"incumbent": "0.02", "good": "0.015", "cheap": "0.002"}


def done(profile: str, source: Source | None = Source.SAME_TIME, **of: Any) -> Given:
    return Given(profile, totals(**of), source)


def measured(given: Given, instead: Given, key: Key = KEY) -> Measured:
    return measure(key, given, instead, min_samples=30)


def test_regret_is_completions_times_what_each_cost_more() -> None:
    found = measured(
        done("a", n=200, cost="0.01", success=0.9, latency_ms=1000),
        done("b", n=50, cost="0.004", success=0.8, latency_ms=4000),
    )
    assert (found.verdict, found.regret_usd) == (Verdict.COST, Decimal("1.200"))
    assert found.cost_difference == Decimal("0.006")
    assert found.success_difference == pytest.approx(0.1)
    assert found.latency_difference == pytest.approx(-3000, rel=0.05)


def test_a_cheaper_choice_has_saved_which_is_a_negative_regret() -> None:
    found = measured(done("a", n=100, cost="0.001"), done("b", n=100, cost="0.003"))
    assert (found.verdict, found.regret_usd) == (Verdict.SAVED, Decimal("-0.200"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 29}, {"n": 30}),
        ({"n": 30}, {"n": 29}),
        ({"n": 30}, {"n": 30, "priced": 29}),
        ({"n": 30, "priced": 0}, {"n": 30}),
    ],
)
def test_too_few_samples_on_either_side_are_unknown_never_zero(one: Any, other: Any) -> None:
    found = measured(done("a", **one), done("b", **other))
    assert (found.verdict, found.regret_usd) == (Verdict.NOT_ENOUGH_DATA, None)
    assert (found.cost_difference, found.success_difference, found.latency_difference) == (None, None, None)
    total = add_up([found])
    assert (total.verdict, total.regret_usd, total.n) == (Verdict.NOT_ENOUGH_DATA, None, 0)


def test_the_same_choice_costs_nothing_however_little_is_known() -> None:
    found = measured(Given("a", Totals(), None), Given("a", Totals(), None))
    assert (found.verdict, found.regret_usd) == (Verdict.SAME_CHOICE, Decimal(0))
    assert add_up([found]).verdict is Verdict.SAME_CHOICE


def test_nobody_is_not_the_same_choice_as_nobody() -> None:
    nobody = Given(None, Totals(), None)
    assert measured(nobody, nobody).verdict is Verdict.NOT_ENOUGH_DATA


def test_scopes_add_up_by_what_each_served() -> None:
    cost = measured(
        done("a", n=300, cost="0.01", success=0.9, latency_ms=1000),
        done("b", n=1000, cost="0.002", success=0.8, latency_ms=8000),
    )
    saved = measured(
        done("a", n=100, cost="0.001", success=0.9, latency_ms=1000),
        done("b", n=50, cost="0.002", success=1.0, latency_ms=500),
    )
    unknown = measured(done("a", n=5), done("b"))
    total = add_up([cost, saved, unknown])
    assert (total.verdict, total.regret_usd, total.n) == (Verdict.COST, Decimal("2.300"), 400)
    assert total.success_difference == pytest.approx((0.1 * 300 - 0.1 * 100) / 400)
    # Three quarters of what would have been given take 8 s, so its p95 is 8 s.
    assert total.latency_difference == pytest.approx(-7000, rel=0.05)


@given(st.integers(30, 5000), st.integers(1, 9999), st.integers(1, 9999))
def test_what_one_choice_cost_the_other_would_have_saved(n: int, one: int, other: int) -> None:
    a, b = done("a", n=n, cost=f"0.{one:04}"), done("b", n=n, cost=f"0.{other:04}")
    forth, back = measured(a, b).regret_usd, measured(b, a).regret_usd
    assert forth is not None
    assert back is not None
    assert forth == -back
    assert forth == n * Decimal(one - other) / 10_000


# --- from real roll-ups


@pytest.fixture
def now() -> datetime:
    return timezone.now()


@pytest.fixture
def scope(db: None) -> None:
    for slug in ("aurora", "borealis"):
        factories.tenant(slug)
    factories.persona(default_profile=factories.profile("incumbent"))
    for slug in COSTS:
        factories.profile(slug)
    flip(100)


def make(kind: str, profile: str, at: datetime, **scope: Any) -> Override:
    made = create_override(Wish(kind, profile, REASON, **scope), ACTOR, at)
    forget_bundle()
    return made


def calls(profile: str, count: int, at: datetime, **fields: Any) -> list[dict[str, Any]]:
    common = {"profile": profile, "occurred_at": at.isoformat(), "cost_usd": COSTS[profile]}
    return [factories.event(**{**common, **fields}) for _ in range(count)]


def report(door: ClickHouse, now: datetime, *groups: list[dict[str, Any]]) -> None:
    """And one call of a minute ago per tenant, without which nothing but the default would be given now."""
    minute = now - timedelta(minutes=1)
    fresh = [calls("incumbent", 1, minute, tenant=tenant, task="warm") for tenant in ("aurora", "borealis")]
    run_pipeline(door, [event for group in (*groups, *fresh) for event in group], now)
    write_snapshot(door, now)
    forget_bundle()


def test_a_lock_is_measured_against_the_rank_at_the_same_time(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    lock = make("lock", "good", now - 3 * HOUR, **HERE)
    report(
        door,
        now,
        calls("good", 50, now - HOUR, latency_ms=1000),
        calls("good", 70, now - 4 * HOUR),  # before the lock
        calls("good", 90, now - HOUR, tenant="borealis"),
        calls("cheap", 40, now - 2 * HOUR, latency_ms=3000),
        calls("incumbent", 40, now - HOUR),
    )
    told = regret(lock, door, now, None)
    # 50 x (0.015 - 0.002)
    assert (told["verdict"], told["regret_usd"], told["n"]) == ("cost", "0.65", 50)
    assert (told["estimate"], told["regret_interval"]) == ("point", None)
    assert (told["scopes_measured"], told["scopes_not_enough_data"], told["more"]) == (1, 0, 0)
    assert (told["since"], told["until"]) == ((now - 3 * HOUR).isoformat(), None)
    [found] = told["scopes"]
    assert (found["given"]["profile"], found["given"]["n"], found["min_samples"]) == ("good", 50, 30)
    instead = found["instead"]
    assert (instead["profile"], instead["reason"], instead["source"]) == ("cheap", "ranked", "same_time")
    assert (instead["n"], Decimal(instead["cost_per_completion"])) == (40, Decimal("0.002"))
    assert Decimal(found["difference"]["cost_per_completion"]) == Decimal("0.013")
    assert found["difference"]["latency_p95_ms"] == pytest.approx(-2000, rel=0.1)


def test_without_samples_of_the_same_time_the_trailing_day_stands_in_and_says_so(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    lock = make("lock", "good", now - 2 * HOUR, **HERE)
    common = (calls("good", 50, now - HOUR), calls("incumbent", 40, now - HOUR))
    report(door, now, *common, calls("cheap", 40, now - 5 * HOUR))
    [found] = regret(lock, door, now, None)["scopes"]
    assert (found["instead"]["source"], found["instead"]["n"]) == ("trailing_24h", 40)
    assert found["regret_usd"] == "0.65"


def test_without_samples_of_its_own_a_tenant_borrows_and_says_so(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    lock = make("lock", "good", now - 2 * HOUR, **HERE)
    common = (calls("good", 50, now - HOUR), calls("incumbent", 40, now - HOUR))
    report(door, now, *common, calls("cheap", 40, now - timedelta(minutes=1), tenant="borealis"))
    [found] = regret(lock, door, now, None)["scopes"]
    assert (found["instead"]["source"], found["instead"]["n"]) == ("trailing_24h_all_tenants", 40)


def test_too_young_an_override_is_not_enough_data(scope: None, door: ClickHouse, now: datetime) -> None:
    report(door, now, calls("good", 50, now - HOUR), calls("cheap", 50, now - HOUR))
    report(door, now, calls("incumbent", 50, now - HOUR))
    lock = make("lock", "good", now - timedelta(seconds=1), **HERE)
    told = regret(lock, door, now, None)
    assert (told["verdict"], told["regret_usd"], told["difference"]["success_rate"]) == (
        "not_enough_data",
        None,
        None,
    )
    [found] = told["scopes"]
    assert (found["given"]["n"], found["given"]["cost_per_completion"]) == (0, None)


def test_an_override_of_a_task_counts_that_task_and_others_count_the_rest(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    essays = make("lock", "incumbent", now - 2 * HOUR, task="essay", **HERE)
    rest = make("lock", "good", now - 2 * HOUR, **HERE)
    report(
        door,
        now,
        calls("incumbent", 40, now - HOUR, task="essay"),
        calls("good", 35, now - HOUR, task="code"),
        calls("good", 200, now - HOUR, task="essay"),
        calls("cheap", 40, now - HOUR, task="code"),
        calls("cheap", 30, now - HOUR, task="essay", cost_usd="0.004"),
    )
    told = regret(essays, door, now, None)
    # Without it the lock without a task holds for essays, too: 40 x (0.02 - 0.015)
    assert (told["scopes"][0]["task"], told["regret_usd"], told["n"]) == ("essay", "0.2", 40)
    told = regret(rest, door, now, None)
    # Essays are the other lock's: 35 x (0.015 - 0.002)
    assert (told["scopes_shadowed"], told["regret_usd"], told["n"]) == (1, "0.455", 35)


def test_an_exclusion_is_measured_by_what_is_given_instead(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    exclusion = make("exclude", "cheap", now - 2 * HOUR, tenant="aurora")
    report(
        door,
        now,
        calls("good", 50, now - HOUR),
        calls("cheap", 40, now - 3 * HOUR),
        calls("incumbent", 40, now - HOUR),
    )
    told = regret(exclusion, door, now, None)
    assert (told["verdict"], told["regret_usd"]) == ("cost", "0.65")
    assert (told["scopes"][0]["given"]["profile"], told["scopes"][0]["instead"]["profile"]) == (
        "good",
        "cheap",
    )
    idle = make("exclude", "incumbent", now - 2 * HOUR, tenant="borealis")
    assert regret(idle, door, now, None)["verdict"] == "same_choice"


def test_an_override_that_ended_is_measured_until_then(scope: None, door: ClickHouse, now: datetime) -> None:
    lock = make("lock", "good", now - 6 * HOUR, **HERE)
    ended = revoke_override(lock.pk, 1, REASON, ACTOR, now - 2 * HOUR)
    forget_bundle()
    report(
        door,
        now,
        calls("good", 40, now - 4 * HOUR),
        calls("good", 500, now - HOUR),
        calls("cheap", 40, now - 4 * HOUR),
        calls("incumbent", 40, now - HOUR),
    )
    told = regret(ended, door, now, None)
    assert (told["n"], told["regret_usd"], told["until"]) == (40, "0.52", (now - 2 * HOUR).isoformat())


def test_a_caller_is_told_of_its_own_tenants_only(scope: None, door: ClickHouse, now: datetime) -> None:
    lock = make("lock", "good", now - 2 * HOUR, persona="essayist")
    report(
        door,
        now,
        *(calls("good", n, now - HOUR, tenant=t) for t, n in (("aurora", 50), ("borealis", 60))),
        *(calls(p, 40, now - HOUR, tenant=t) for t in ("aurora", "borealis") for p in ("cheap", "incumbent")),
    )
    everybody, mine = (regret(lock, door, now, who) for who in (None, frozenset({"aurora"})))
    assert (everybody["n"], [s["tenant"] for s in everybody["scopes"]]) == (110, ["borealis", "aurora"])
    assert (mine["n"], [s["tenant"] for s in mine["scopes"]], mine["scopes_shadowed"]) == (50, ["aurora"], 0)


def test_an_override_older_than_a_day_counts_whole_hours(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    lock = make("lock", "good", datetime(2026, 11, 1, 9, 20, tzinfo=UTC), **HERE)
    assert now - lock.created_at > timedelta(days=1)
    told = regret(lock, door, now, None)
    assert told["measured_from"] == "2026-11-01T10:00:00+00:00"


# --- when an override began


@pytest.mark.django_db
def test_it_began_when_it_last_became_what_it_is(scope: None, now: datetime) -> None:
    lock = make("lock", "good", now - 9 * HOUR, **HERE)

    def since() -> datetime:
        return began(Override.objects.get(pk=lock.pk), read_entries([lock.pk])[lock.pk])

    assert since() == now - 9 * HOUR
    replace_override(lock.pk, 1, Wish("lock", "good", "for another reason", **HERE), ACTOR, now - 8 * HOUR)
    assert since() == now - 9 * HOUR
    replace_override(lock.pk, 2, Wish("lock", "cheap", REASON, **HERE), ACTOR, now - 7 * HOUR)
    assert since() == now - 7 * HOUR
    revoke_override(lock.pk, 3, REASON, ACTOR, now - 6 * HOUR)
    assert since() == now - 7 * HOUR
    undo_override(lock.pk, 4, REASON, ACTOR, now - 5 * HOUR)
    assert since() == now - 5 * HOUR


# --- the endpoint


def get(client: Client, pk: int, *verbs: str, **key: Any) -> Any:
    return client.get(f"/api/v1/settings/overrides/{pk}/regret", headers=factories.key(*verbs, **key))


def test_the_endpoint_measures_now(client: Client, scope: None, door: ClickHouse, now: datetime) -> None:
    lock = make("lock", "good", now - 2 * HOUR, **HERE)
    report(
        door,
        now,
        *(calls(profile, 40, now - HOUR) for profile in COSTS),
    )
    answer = get(client, lock.pk, "read")
    assert (answer.status_code, answer.json()["regret_usd"]) == (200, "0.52")
    assert OverrideMeter.objects.count() == 0


@pytest.mark.django_db
def test_foreign_and_unknown_overrides_look_the_same(client: Client, scope: None, now: datetime) -> None:
    foreign = make("lock", "good", now, tenant="borealis")
    answers = [get(client, pk, "read") for pk in (foreign.pk, foreign.pk + 1)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert factories.told(answers[0]) == factories.told(answers[1])
    assert answers[0].json()["code"] == "unknown_override"
    assert get(client, foreign.pk, "select").status_code == 403


def away(settings: Settings) -> None:
    settings.CLICKHOUSE_URL = f"clickhouse://127.0.0.1:{free_ports(1)[0]}/nowhere"
    close_clickhouse()


@pytest.mark.django_db
def test_without_clickhouse_it_is_a_503_unless_the_choice_is_the_same(
    client: Client, settings: Settings, now: datetime
) -> None:
    ranked_scope()
    away(settings)
    lock, same = make("lock", "incumbent", now - HOUR, **HERE), make("prefer", "cheap", now - HOUR)
    answer = get(client, lock.pk, "read")
    assert (answer.status_code, answer.json()["code"]) == (503, "clickhouse_unavailable")
    revoke_override(lock.pk, 1, REASON, ACTOR, now)
    forget_bundle()
    answer = get(client, same.pk, "read")
    assert (answer.status_code, answer.json()["verdict"], answer.json()["regret_usd"]) == (
        200,
        "same_choice",
        "0",
    )


# --- all of them, in turn


def test_standing_overrides_are_measured_in_turn_the_longest_unmeasured_first(
    scope: None, door: ClickHouse, now: datetime
) -> None:
    report(door, now, *(calls(profile, 40, now - HOUR) for profile in COSTS))
    first, second, third = (make("lock", "good", now - 2 * HOUR, **HERE, task=t) for t in ("a", "b", "c"))
    revoke_override(third.pk, 1, REASON, ACTOR, now)
    forget_bundle()
    assert measure_standing(door, now, most=1) == 1
    assert list(OverrideMeter.objects.values_list("override", flat=True)) == [first.pk]
    assert measure_standing(door, now + timedelta(minutes=5), most=1) == 1
    assert set(OverrideMeter.objects.values_list("override", flat=True)) == {first.pk, second.pk}
    assert measure_standing(door, now + timedelta(minutes=10), most=1) == 1
    again = OverrideMeter.objects.get(override=first)
    assert again.measured_at == now + timedelta(minutes=10)
    assert again.figures == regret(first, door, now + timedelta(minutes=10), None)
    assert measure_standing(door, now + timedelta(minutes=15)) == 2


def test_measuring_stops_when_its_time_is_up(scope: None, door: ClickHouse, now: datetime) -> None:
    for task in ("a", "b", "c"):
        make("lock", "good", now - 2 * HOUR, **HERE, task=task)
    ticks = iter([0.0, 0.0, 3.0, 6.0])
    assert measure_standing(door, now, budget_seconds=5, monotonic=lambda: next(ticks)) == 2
    assert OverrideMeter.objects.count() == 2


def test_one_that_cannot_be_read_in_time_is_stored_as_unknown_and_the_others_go_on(
    scope: None, door: ClickHouse, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = make("lock", "good", now, **HERE), make("lock", "cheap", now, tenant="borealis")
    real: Callable[..., Meter] = meters.meter

    def meter(override: Override, *rest: Any) -> Meter:
        if override.pk == slow.pk:
            raise ClickHouseTimeout("too slow")
        return real(override, *rest)

    monkeypatch.setattr(metering, "meter", meter)
    assert measure_standing(door, now) == 2
    figures = OverrideMeter.objects.get(override=slow).figures
    assert (figures["verdict"], figures["regret_usd"]) == ("not_enough_data", None)
    assert "in time" in figures["problem"]
    assert OverrideMeter.objects.get(override=quick).figures["problem"] is None


@pytest.mark.django_db
def test_while_clickhouse_is_away_the_last_figures_stay(settings: Settings, now: datetime) -> None:
    ranked_scope()
    lock = make("lock", "incumbent", now - HOUR, **HERE)
    OverrideMeter.objects.create(override=lock, measured_at=now - HOUR, figures={"verdict": "cost"})
    away(settings)
    assert measure_overrides() == 0
    kept = OverrideMeter.objects.get()
    assert (kept.measured_at, kept.figures) == (now - HOUR, {"verdict": "cost"})


def test_the_task_measures_what_stands(scope: None, door: ClickHouse, now: datetime) -> None:
    assert measure_overrides() == 0
    make("lock", "good", now - HOUR, **HERE)
    assert measure_overrides() == 1


@pytest.mark.django_db
def test_the_databases_queries_do_not_grow_with_the_overrides(
    now: datetime, django_assert_num_queries: Any
) -> None:
    ranked_scope()
    for number in range(20):
        make("prefer", "cheap", now - HOUR, task=f"task-{number}")
        if number not in (0, 19):
            continue
        current_bundle()
        # What stands, the personas, the audit entries; and storing in one transaction.
        with django_assert_num_queries(4):
            assert measure_standing(get_clickhouse(), now) == number + 1
