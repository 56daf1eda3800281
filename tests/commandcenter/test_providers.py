"""What breaks if a provider dies: by the engine's own answers, for those who may see it, quickly at 1,000 scopes."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given

from commandcenter.cards import MEETS, MISSES, UNPROVEN
from commandcenter.providers import NOBODY, Loss, losses_of
from routing.bundle import forget_bundle
from routing.engine import (
    Bundle,
    BundlePersona,
    BundleSnapshot,
    BundleTenant,
    Reason,
    SelectionProblem,
    Standing,
    StandingOverride,
    decide,
)
from routing.models import ConversationSelection
from routing.scoring import Evidence
from routing.snapshots import Windows, read_catalogue, score_all, store_snapshot
from routing.standing import Kind
from telemetry.totals import Totals
from tests import factories
from tests.overrides.people import someone
from tests.routing.cases import NOW, RULES, bundle, evidence, pools, profile, request, scope, totals
from tests.routing.scenes import flip, totals_at

PROVIDERS = "/admin/center/providers/"
HTMX = {"HX-Request": "true"}
Budget = Callable[..., AbstractContextManager[Any]]


def world(*items: Evidence, providers: dict[str, str], **fields: Any) -> Bundle:
    known = [profile(slug, provider=provider) for slug, provider in providers.items()]
    # What is kept is kept by version: each world has its own.
    return bundle(*items, profiles=known, version=f"{time.monotonic_ns()}.1", **fields)


CHEAP = evidence("cheap", cost="0.002")
GOOD = evidence("good", cost="0.015")
INCUMBENT = evidence("incumbent", cost="0.02")
#: The cost is measured by a maximum, so that the default need not have one.
CAPPED = replace(RULES, sla=replace(RULES.sla, max_cost_per_completion=Decimal("0.05")))
APART = {"cheap": "a", "good": "b", "incumbent": "c"}


def only(found: Bundle, provider: str) -> Loss:
    [loss] = losses_of(found, None, NOW)[provider]
    return loss


def test_the_next_best_that_passes_stands_in_with_its_cost() -> None:
    loss = only(world(CHEAP, GOOD, INCUMBENT, providers=APART), "a")
    assert (loss.card.profile, loss.instead, loss.reason) == ("cheap", "good", "ranked")
    assert (loss.sla, loss.passes, loss.cost) == (MEETS, True, Decimal("0.015"))
    assert loss.cost_ratio == pytest.approx(6.5)


def test_providers_that_nothing_depends_on_now_lose_nothing() -> None:
    found = losses_of(world(CHEAP, GOOD, INCUMBENT, providers=APART), None, NOW)
    assert {provider: len(losses) for provider, losses in found.items()} == {"a": 1, "b": 0, "c": 0}


def test_all_profiles_of_the_provider_die_together() -> None:
    found = world(CHEAP, GOOD, INCUMBENT, providers={**APART, "good": "a"})
    loss = only(found, "a")
    assert (loss.instead, loss.reason) == ("incumbent", "ranked")


def test_a_default_that_misses_the_sla_is_no_passing_alternative() -> None:
    failing = evidence("incumbent", cost="0.02", success=0.2)
    loss = only(world(CHEAP, failing, providers=APART), "a")
    assert (loss.instead, loss.reason, loss.sla, loss.passes) == (
        "incumbent",
        "no_eligible_candidate",
        MISSES,
        False,
    )
    assert any("success FAIL" in sentence for sentence in loss.broken)


def test_an_unproven_one_does_not_pass_either() -> None:
    few = Evidence("incumbent", totals(n=10), Totals())
    loss = only(world(CHEAP, few, providers=APART, scores=scope([CHEAP, few], CAPPED)), "a")
    assert (loss.sla, loss.passes) == (UNPROVEN, False)


def test_with_the_default_gone_too_and_nobody_else_proved_nobody_is_given() -> None:
    loss = only(world(CHEAP, INCUMBENT, providers={"cheap": "a", "incumbent": "a"}), "a")
    assert (loss.instead, loss.sla, loss.order) == (None, NOBODY, 0)
    assert loss.problem is not None
    assert "The default, incumbent, is gone too" in loss.problem


def test_a_lock_to_a_dead_profile_gives_way_as_it_does_to_a_worker_that_cannot_take_it() -> None:
    lock = StandingOverride(1, Kind.LOCK, "incumbent")
    found = world(CHEAP, GOOD, INCUMBENT, providers=APART, standing=Standing((lock,)))
    loss = only(found, "c")
    assert (loss.card.reason, loss.instead, loss.reason) == ("override_lock", "cheap", "ranked")


def test_while_the_flag_is_off_the_next_in_the_chain_stands_in_for_the_default() -> None:
    base = world(CHEAP, GOOD, INCUMBENT, providers=APART)
    off = replace(base, flag=replace(base.flag, everyone=False))
    loss = only(off, "c")
    assert (loss.card.reason, loss.instead, loss.reason) == ("flag_off", "cheap", "flag_off")


def test_unknown_costs_stay_unknown() -> None:
    unpriced = Evidence("incumbent", totals(priced=0, cost_usd=Decimal(0)), Totals())
    loss = only(world(CHEAP, unpriced, providers=APART, scores=scope([CHEAP, unpriced], CAPPED)), "a")
    assert (loss.cost, loss.cost_ratio) == (None, None)


@given(pools())
def test_it_is_what_the_engine_decides_for_a_worker_that_excludes_the_dead(pool: list[Evidence]) -> None:
    providers = {item.profile: "ab"[index % 2] for index, item in enumerate(pool)}
    found = world(*pool, providers=providers)
    for provider, losses in losses_of(found, None, NOW).items():
        dead = tuple(slug for slug, whose in providers.items() if whose == provider)
        for loss in losses:
            asked = request(at=NOW, exclude=dead)
            try:
                decision = decide(found, asked)
            except SelectionProblem:
                assert loss.instead is None
            else:
                assert (loss.instead, loss.reason) == (decision.profile.slug, decision.reason.value)
                assert loss.instead not in dead
                assert loss.passes is (decision.reason is Reason.RANKED)


def test_a_thousand_scopes_of_five_providers_take_little_time_and_the_second_look_none() -> None:
    slugs = [f"p-{number}" for number in range(10)]
    items = [evidence("incumbent", cost="0.02")] + [
        evidence(slug, cost=f"0.00{index + 1}") for index, slug in enumerate(slugs)
    ]
    providers = {slug: f"provider-{index % 5}" for index, slug in enumerate(["incumbent", *slugs])}
    tenants = {f"t-{number}": BundleTenant(f"t-{number}", enabled=True) for number in range(250)}
    personas = {slug: BundlePersona(slug, enabled=True, default_profile="incumbent") for slug in "abcd"}
    scopes = {(tenant, persona): scope(items) for tenant in tenants for persona in personas}
    found = world(
        *items,
        providers=providers,
        tenants=tenants,
        personas=personas,
        snapshot=BundleSnapshot("7", NOW, scopes, {}),
    )
    began = time.perf_counter()
    losses = losses_of(found, None, NOW)
    first = time.perf_counter() - began
    began = time.perf_counter()
    assert losses_of(found, None, NOW) is losses
    again = time.perf_counter() - began
    print(f"1,000 scopes x 5 providers: {first * 1000:.0f} ms, again {again * 1e6:.0f} us")  # noqa: T201
    assert sum(len(of) for of in losses.values()) == 1000
    assert first < 2
    assert again < first / 10


# --- the page


@pytest.fixture
def _two_tenants(db: None) -> None:
    """aurora and borealis on cheap (of acme), with nothing but the incumbent (of big, failing) beside it."""
    for slug in ("aurora", "borealis"):
        factories.tenant(slug)
    factories.persona(default_profile=factories.profile("incumbent", provider="big"))
    factories.profile("cheap", provider="acme")
    flip(100)
    now = timezone.now()
    cards = {
        "incumbent": totals_at(totals(cost="0.02", success=0.2), now),
        "cheap": totals_at(totals(cost="0.002"), now),
    }
    scopes = [("aurora", "essayist"), ("borealis", "essayist"), (None, "essayist")]
    windows = Windows(dict.fromkeys(scopes, cards), {})
    store_snapshot(score_all(read_catalogue(), windows), 1, now)
    forget_bundle()


def talk(tenant: str, count: int) -> None:
    ConversationSelection.objects.bulk_create(
        ConversationSelection(
            tenant=tenant,
            persona="essayist",
            conversation_id=f"{tenant}-{number}",
            profile="cheap",
            reason="ranked",
            decision_id="00000000-0000-4000-8000-000000000000",
            decided_at=timezone.now() - timedelta(hours=1),
        )
        for number in range(count)
    )


@pytest.mark.usefixtures("_two_tenants")
def test_the_one_with_most_to_lose_is_shown_first_with_its_scopes_and_their_traffic(
    admin_client: Client,
) -> None:
    talk("aurora", 48)
    talk("borealis", 1)
    page = " ".join(admin_client.get(PROVIDERS).content.decode().split())
    assert "If acme dies" in page
    assert "2 of 2 scopes have no passing alternative" in page
    assert "/admin/center/scopes/aurora/essayist/" in page
    assert "✗ misses" in page
    assert "success FAIL" in page
    assert "$0.002000 → $0.0200" in page
    assert "▲ 900.0%" in page
    # 48 conversations in 24 hours, and one, which is little but not nothing.
    assert '<td class="number">2</td>' in page
    assert '<td class="number">under 0.1</td>' in page
    assert page.index("scopes/aurora") < page.index("scopes/borealis")


@pytest.mark.usefixtures("_two_tenants")
def test_the_provider_stands_in_the_address(admin_client: Client) -> None:
    page = admin_client.get(PROVIDERS, {"provider": "big"}).content.decode()
    assert "If big dies" in page
    assert "Nothing changes" in page
    assert (
        "If acme dies" in admin_client.get(PROVIDERS, {"provider": "nobody", "page": "99"}).content.decode()
    )


@pytest.mark.usefixtures("_two_tenants")
def test_people_of_single_tenants_see_theirs_alone(client: Client) -> None:
    talk("borealis", 5000)
    vera = someone("vera", at={"aurora": "viewer"})
    for headers in ({}, HTMX):
        page = vera.get(PROVIDERS, headers=headers).content.decode()
        assert "1 of 1 scopes have no passing alternative" in " ".join(page.split())
        assert "borealis" not in page
    assert someone("nadia").get(PROVIDERS).status_code == 403
    assert client.get(PROVIDERS).status_code == 302
    assert vera.post(PROVIDERS).status_code == 405


@pytest.mark.django_db
def test_an_empty_catalogue_says_what_to_do_first(admin_client: Client) -> None:
    assert "Add model profiles" in admin_client.get(PROVIDERS).content.decode()


@pytest.mark.django_db
def test_before_anything_is_scored_it_says_that_nothing_is_proved(admin_client: Client) -> None:
    factories.scope()
    forget_bundle()
    page = admin_client.get(PROVIDERS).content.decode()
    assert "Nothing has been scored yet" in page
    assert "nobody" in page


@pytest.mark.usefixtures("_two_tenants")
@pytest.mark.parametrize("more", [0, 80])
def test_it_takes_few_queries_however_many_scopes(django_assert_max_num_queries: Budget, more: int) -> None:
    for number in range(more):
        factories.tenant(f"tenant-{number}")
    forget_bundle()
    vera = someone("vera", role="viewer")
    vera.get(PROVIDERS)
    for headers in ({}, HTMX):
        with django_assert_max_num_queries(12):
            page = vera.get(PROVIDERS, headers=headers).content.decode()
    assert page.count("data-row") == min(more + 2, 50)
    assert ("Page 1 of 2" in page) is (more > 0)


@pytest.mark.usefixtures("_two_tenants")
def test_a_fragment_that_did_not_change_is_a_304(admin_client: Client) -> None:
    tag = admin_client.get(PROVIDERS, headers=HTMX)["ETag"]
    again = admin_client.get(PROVIDERS, headers={**HTMX, "If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
