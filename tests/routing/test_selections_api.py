"""POST /api/v1/selections and GET /api/v1/rankings, through the front door."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from django.db import connection
from django.test import Client

from catalog.models import ModelProfile, Tenant
from overrides.models import Flag, FlagTenant
from routing.bundle import forget_bundle
from routing.storing.postgres import PostgresStore
from routing.storing.sqlite import SqliteStore
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import ASKED, flip, scope, snapshot

pytestmark = pytest.mark.django_db
URL = "/api/v1/selections"


@pytest.fixture
def key() -> dict[str, str]:
    scope()
    return factories.key("select", "read")


def post(client: Client, key: dict[str, str], body: Any = None) -> Any:
    return client.post(URL, ASKED if body is None else body, content_type="application/json", headers=key)


def answer(client: Client, key: dict[str, str], **asked: Any) -> tuple[str, str]:
    response = post(client, key, {**ASKED, **asked})
    assert response.status_code == 200, response.content
    body = response.json()
    return body["reason"], body["profile"]["slug"]


def test_with_the_flag_off_every_conversation_gets_the_default(client: Client, key: dict[str, str]) -> None:
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    assert answer(client, key) == ("flag_off", "incumbent")


def test_with_the_flag_on_it_is_the_cheapest_that_meets_the_sla(client: Client, key: dict[str, str]) -> None:
    flip(100)
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    body = post(client, key).json()
    assert (body["reason"], body["profile"]["slug"]) == ("ranked", "cheap")
    assert body["fallback"] == ["incumbent"]
    assert body["profile"]["base_url"] == "https://api.example.com/v1"
    assert body["explanation"]
    assert [card["profile"] for card in body["candidates"]] == ["cheap", "incumbent"]
    assert all(gate["sentence"] for card in body["candidates"] for gate in card["gates"])


def test_old_metrics_give_the_default(client: Client, key: dict[str, str]) -> None:
    flip(100)
    assert answer(client, key) == ("telemetry_stale", "incumbent")
    snapshot(timedelta(minutes=16), incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    assert answer(client, key) == ("telemetry_stale", "incumbent")
    snapshot(timedelta(minutes=14), incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    assert answer(client, key) == ("ranked", "cheap")


def test_nobody_proved_gives_the_default(client: Client, key: dict[str, str]) -> None:
    flip(100)
    snapshot(incumbent=totals(success=0.6), cheap=totals(success=0.3))
    assert answer(client, key) == ("no_eligible_candidate", "incumbent")


def test_half_rolled_out_a_conversation_keeps_its_side_for_good(client: Client, key: dict[str, str]) -> None:
    flip(50)
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    sides = [answer(client, key, conversation_id=f"c-{number}")[0] for number in range(40)]
    assert {"flag_off", "ranked"} == set(sides)
    forget_bundle()
    assert [answer(client, key, conversation_id=f"c-{number}")[0] for number in range(40)] == sides


@pytest.mark.parametrize(("everyone", "reason"), [(True, "ranked"), (False, "flag_off")])
def test_for_everyone_yes_or_no_beats_every_percentage(
    client: Client, key: dict[str, str], everyone: bool, reason: str
) -> None:
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    flag = Flag.objects.get()
    FlagTenant.objects.create(flag=flag, tenant=factories.tenant(), rollout_percent=0 if everyone else 100)
    flag.everyone = everyone
    flag.save()
    forget_bundle()
    assert answer(client, key)[0] == reason


def test_at_10_percent_of_a_tenant_the_same_conversations_are_on_each_time_and_others_are_off(
    client: Client, key: dict[str, str]
) -> None:
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    FlagTenant.objects.create(flag=Flag.objects.get(), tenant=factories.tenant(), rollout_percent=10)
    other = factories.key("select", tenants=("borealis",))
    forget_bundle()
    names = [f"c-{number}" for number in range(300)]
    sides = {name: answer(client, key, conversation_id=name)[0] for name in names}
    on = {name for name, reason in sides.items() if reason == "ranked"}
    assert 12 <= len(on) <= 50
    assert {answer(client, other, tenant="borealis", conversation_id=name)[0] for name in names} == {
        "flag_off"
    }
    forget_bundle()
    assert {name for name in names if answer(client, key, conversation_id=name)[0] == "ranked"} == on
    FlagTenant.objects.update(rollout_percent=30)
    forget_bundle()
    assert on < {name for name in names if answer(client, key, conversation_id=name)[0] == "ranked"}


def test_a_warm_process_commits_the_decision_in_one_statement_and_asks_no_more(
    client: Client, key: dict[str, str], django_assert_num_queries: Any, settings: Any
) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 5
    flip(100)
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    post(client, key)
    store: Any = PostgresStore if connection.vendor == "postgresql" else SqliteStore
    puts = mock.patch.object(store, "put", autospec=True, side_effect=store.put)
    with django_assert_num_queries(0), puts as put:
        assert answer(client, key) == ("ranked", "cheap")
    assert put.call_count == 1


def test_a_change_of_the_catalogue_is_seen(client: Client, key: dict[str, str], settings: Any) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    flip(100)
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    assert answer(client, key) == ("ranked", "cheap")
    ModelProfile.objects.filter(slug="cheap").update(enabled=False)
    assert answer(client, key) == ("ranked", "incumbent")


def test_unknown_foreign_and_disabled_are_problems(client: Client, key: dict[str, str]) -> None:
    factories.tenant("borealis")
    foreign = post(client, key, {**ASKED, "tenant": "borealis"})
    absent = post(client, key, {**ASKED, "tenant": "nowhere"})
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"].replace("borealis", "nowhere") == absent.json()["detail"]
    assert post(client, key, {**ASKED, "persona": "nobody"}).json()["code"] == "unknown_persona"
    Tenant.objects.filter(slug="aurora").update(enabled=False)
    forget_bundle()
    disabled = post(client, key)
    assert (disabled.status_code, disabled.json()["code"]) == (409, "tenant_disabled")


def test_without_a_key_it_is_401_and_without_the_verb_403(client: Client, key: dict[str, str]) -> None:
    assert post(client, {}).status_code == 401
    assert post(client, factories.key("read", "ingest")).status_code == 403
    assert client.get("/api/v1/rankings", ASKED, headers=factories.key("select")).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"tenant": NaN}',
        b"\xff\xfe",
        b'{"tenant": "aurora", "persona": "essayist", "conversation_id": "\xff"}',
        b'{"tenant": "aurora", "persona": "essayist", "conversation_id": "a\\u0000b"}',
        b'{"tenant": "a\\u0000", "persona": "essayist", "conversation_id": "c"}',
        b'{"tenant": "aurora", "persona": "essayist", "conversation_id": "\\ud800"}',
        {**ASKED, "conversation_id": ""},
        {**ASKED, "conversation_id": "x" * 201},
        {**ASKED, "conversation_id": {"a": 1}},
        {**ASKED, "conversation_id": None},
        {**ASKED, "conversation_id": 5},
        {**ASKED, "conversation_id": True},
        {**ASKED, "request_id": 5},
        {**ASKED, "exclude": "cheap"},
        {**ASKED, "exclude": ["x"] * 51},
        {**ASKED, "tenant": ["aurora"]},
        {**ASKED, "task": "Essay!"},
        {**ASKED, "task": None},
        {**ASKED, "temperature": 1},
        {"tenant": "aurora"},
    ],
)
def test_a_bad_body_is_a_400_that_says_why(client: Client, key: dict[str, str], body: Any) -> None:
    response = post(client, key, body)
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["detail"]


def test_what_was_asked_is_taken_as_it_came_spaces_included(client: Client, key: dict[str, str]) -> None:
    told = post(client, key, {**ASKED, "conversation_id": "  c 1 "}).json()
    assert told["conversation_id"] == "  c 1 "
    found = client.get("/api/v1/conversations/%20%20c%201%20/selection", headers=key)
    assert found.json()["decision_id"] == told["decision_id"]
    assert post(client, key, {**ASKED, "tenant": " aurora "}).status_code == 404


def test_a_wrong_media_type_is_415_and_a_wrong_method_405(client: Client, key: dict[str, str]) -> None:
    wrong = client.post(URL, "tenant=aurora", content_type="application/x-www-form-urlencoded", headers=key)
    assert (wrong.status_code, wrong.json()["code"]) == (415, "unsupported_media_type")
    assert client.get(URL, headers=key).json()["code"] == "method_not_allowed"


def test_rankings_show_the_scorecards_that_steer(client: Client, key: dict[str, str]) -> None:
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"))
    body = client.get("/api/v1/rankings", {"tenant": "aurora", "persona": "essayist"}, headers=key).json()
    assert [card["profile"] for card in body["scorecards"]] == ["cheap", "incumbent"]
    assert (body["incumbent"], body["freshness"]) == ("incumbent", "fresh")
    first, second = body["scorecards"]
    assert Decimal(first["cost_per_completion"]) == Decimal("0.002")
    assert (first["rank"], first["contrast"]) == (1, None)
    assert second["contrast"]["sentence"].startswith("lost by")


def test_rankings_before_any_snapshot_are_empty_and_blind(client: Client, key: dict[str, str]) -> None:
    body = client.get("/api/v1/rankings", {"tenant": "aurora", "persona": "essayist"}, headers=key).json()
    assert (body["scorecards"], body["freshness"], body["snapshot_id"]) == ([], "blind", None)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"tenant": "aurora"}, 400),
        ({"tenant": "nowhere", "persona": "essayist"}, 404),
        ({"tenant": "aurora", "persona": "nobody"}, 404),
        ({"tenant": "aurora", "persona": "a\x00"}, 400),
    ],
)
def test_rankings_of_a_scope_that_is_not_there_are_a_problem(
    client: Client, key: dict[str, str], query: dict[str, str], status: int
) -> None:
    assert client.get("/api/v1/rankings", query, headers=key).status_code == status
