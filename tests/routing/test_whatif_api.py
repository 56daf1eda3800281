"""``POST /api/v1/whatif``: what it takes and refuses, whose scopes it tells of, and that it changes nothing."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from catalog.models import ModelProfile, Persona, PriceRevision
from overrides.models import AuditEntry, ChangeRequest, IdempotencyKey
from routing import whatif_answer
from routing.bundle import forget_bundle
from telemetry.clickhouse import ClickHouseUnavailable
from telemetry.metrics import Key
from telemetry.usage import Usage
from tests import factories
from tests.overrides.people import call, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
WEIGHTS = {"weight_cost": "0.1", "weight_success": "0.2", "weight_latency": "0.7"}


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    ranked_scope()
    factories.tenant("borealis")
    factories.price(ModelProfile.objects.get(slug="cheap"), "0.01", "0.02")
    forget_bundle()
    monkeypatch.setattr(whatif_answer, "read_completions", _completions)
    used = Usage(400, 40_000, 40_000, 0)
    own = {Key("aurora", "essayist", slug): used for slug in ("cheap", "incumbent")}
    shared = {Key(None, "essayist", slug): used for slug in ("cheap", "incumbent")}
    monkeypatch.setattr(whatif_answer, "read_usage", lambda *_: own)
    monkeypatch.setattr(whatif_answer, "read_shared_usage", lambda *_: shared)
    return factories.key("read", tenants=())


def _completions(_door: Any, _span: Any, tenants: frozenset[str] | None) -> dict[tuple[str, str], int]:
    found = {("aurora", "essayist"): 1_000, ("borealis", "essayist"): 10}
    return {scope: n for scope, n in found.items() if tenants is None or scope[0] in tenants}


def ask(client: Client, body: Any, key: Mapping[str, str] | None = None) -> Any:
    return call(client, "post", "/whatif", body, dict(key or {}))


def test_it_tells_flips_dollars_and_breaches(client: Client, key: dict[str, str]) -> None:
    answer = ask(client, {"remove": ["cheap"]}, key)
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["scopes_checked"], told["scopes_flipped"], told["more"]) == (2, 2, 0)
    # 1,010 completions, from $0.002 to $0.02 each
    assert told["usd_per_day"] | {"scopes_known": 0} == {
        "old": "2.02",
        "new": "20.2",
        "difference": "18.18",
        "scopes_known": 0,
        "scopes_unknown": 0,
    }
    assert [one["tenant"] for one in told["scopes"]] == ["aurora", "borealis"]  # the most dollars first
    assert told["scopes"][1]["new"]["profile"] == "incumbent"
    assert told["profiles"][0]["profile"] == "cheap"


def test_a_price_keeps_what_is_not_named_as_it_is_in_force(client: Client, key: dict[str, str]) -> None:
    told = ask(client, {"prices": {"cheap": {"completion_per_1k": "0.05"}}}, key).json()
    # 100 prompt tokens at 0.01 as before, 100 completion tokens at 0.05
    assert Decimal(told["scopes"][0]["new"]["cost_per_completion"]) == Decimal("0.006")
    free = ask(client, {"prices": {"cheap": {"prompt_per_1k": "0", "completion_per_1k": "0"}}}, key).json()
    assert Decimal(free["scopes"][0]["new"]["cost_per_completion"]) == 0


def test_the_list_is_bounded_and_the_rest_counted(client: Client, key: dict[str, str]) -> None:
    for number in range(60):
        factories.tenant(f"tenant-{number}")
    forget_bundle()
    told = ask(client, {"remove": ["cheap"]}, key).json()
    assert (told["scopes_flipped"], len(told["scopes"]), told["more"]) == (62, 50, 12)
    few = ask(client, {"remove": ["cheap"], "limit": 3}, key).json()
    assert (len(few["scopes"]), few["more"]) == (3, 59)
    assert few["usd_per_day"] == told["usd_per_day"]


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        ({}, 400, "invalid", "at least one change"),
        ({"personas": {"essayist": {}}}, 400, "invalid", "at least one change"),
        ({"personas": {"nobody": WEIGHTS}}, 404, "unknown_persona", "'nobody'"),
        ({"remove": ["nobody"]}, 404, "unknown_profile", "'nobody'"),
        ({"prices": {"nobody": {"prompt_per_1k": "1"}}}, 404, "unknown_profile", "'nobody'"),
        ({"personas": {"essayist": {"default_profile": "nobody"}}}, 404, "unknown_profile", "'nobody'"),
        ({"tenant": "nobody", "remove": ["cheap"]}, 404, "unknown_tenant", "'nobody'"),
        ({"add": ["cheap"], "remove": ["cheap"]}, 400, "invalid", "cheap is in both"),
        ({"prices": {"incumbent": {"prompt_per_1k": "1"}}}, 400, "invalid", "no price in force"),
        ({"prices": {"cheap": {}}}, 400, "invalid", "name prompt_per_1k"),
        ({"prices": {"cheap": {"prompt_per_1k": "-1"}}}, 400, "invalid", "greater than or equal to 0"),
        ({"prices": {"cheap": {"prompt_per_1k": "NaN"}}}, 400, "invalid", "valid number"),
        ({"personas": {"essayist": {"weight_cost": "0.9"}}}, 400, "invalid", "must sum to 1"),
        ({"personas": {"essayist": {"min_success_rate": "1.5"}}}, 400, "invalid", "min_success_rate"),
        ({"personas": {"essayist": {"charm": 1}}}, 400, "invalid", "Unknown members: charm"),
        ({"personas": {"essayist": {"four_eyes": True}}}, 400, "invalid", "Unknown members: four_eyes"),
        ({"remove": ["cheap"], "limit": 501}, 400, "invalid", "limit"),
        ({"remove": [f"p-{n}" for n in range(51)]}, 400, "invalid", "remove"),
        ({"colour": 1}, 400, "invalid", "Unknown members: colour"),
    ],
)
def test_what_is_wrong_is_said(
    client: Client, key: dict[str, str], body: Any, status: int, code: str, detail: str
) -> None:
    answer = ask(client, body, key)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert detail in answer.content.decode()


def test_a_caller_of_one_tenant_is_told_of_its_scopes_alone(client: Client, key: dict[str, str]) -> None:
    own = factories.key("read", tenants=("borealis",))
    told = ask(client, {"remove": ["cheap"]}, own)
    assert "aurora" not in told.content.decode()
    assert (told.json()["scopes_checked"], told.json()["usd_per_day"]["old"]) == (1, "0.02")
    foreign = ask(client, {"remove": ["cheap"], "tenant": "aurora"}, own)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_tenant")
    narrowed = ask(client, {"remove": ["cheap"], "tenant": "aurora"}, key).json()
    assert [one["tenant"] for one in narrowed["scopes"]] == ["aurora"]


def test_it_takes_the_right_to_read(client: Client, key: dict[str, str]) -> None:
    for verb in ("select", "ingest", "override", "personas"):
        assert ask(client, {"remove": ["cheap"]}, factories.key(verb, tenants=())).status_code == 403
    assert ask(client, {"remove": ["cheap"]}).status_code == 401
    vera = someone("vera", at={"aurora": "viewer"})
    assert [one["tenant"] for one in ask(vera, {"remove": ["cheap"]}).json()["scopes"]] == ["aurora"]
    assert ask(someone("nobody"), {"remove": ["cheap"]}).status_code == 403


def test_it_changes_and_records_nothing(client: Client, key: dict[str, str]) -> None:
    rows = {model: list(model.objects.values()) for model in (Persona, ModelProfile, PriceRevision)}
    body = {
        "personas": {"essayist": WEIGHTS},
        "prices": {"cheap": {"prompt_per_1k": "1"}},
        "remove": ["incumbent"],
        "add": ["cheap"],
    }
    assert ask(client, body, key).status_code == 200
    assert {model: list(model.objects.values()) for model in rows} == rows
    for model in (AuditEntry, ChangeRequest, IdempotencyKey):
        assert not model.objects.exists()


def test_without_clickhouse_dollars_are_unknown_and_prices_a_503(
    client: Client, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise ClickHouseUnavailable("away")

    for name in ("read_completions", "read_usage"):
        monkeypatch.setattr(whatif_answer, name, away)
    told = ask(client, {"personas": {"essayist": WEIGHTS}, "remove": ["cheap"]}, key).json()
    assert (told["scopes_flipped"], told["usd_per_day"]["difference"]) == (2, None)
    assert "how many completions" in told["unknown"]
    answer = ask(client, {"prices": {"cheap": {"prompt_per_1k": "1"}}}, key)
    assert (answer.status_code, answer.json()["code"]) == (503, "clickhouse_unavailable")


def test_times_are_of_the_scores(client: Client, key: dict[str, str]) -> None:
    told = ask(client, {"remove": ["cheap"]}, key).json()
    start, end = (datetime.fromisoformat(told[name]) for name in ("measured_from", "measured_to"))
    assert 24 <= (end - start).total_seconds() / 3600 < 24.2
