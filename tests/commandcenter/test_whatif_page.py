"""The what-if page: state in the address, what it would do, saving by the audited settings service, who may."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from catalog.models import ModelProfile, Persona, PriceRevision
from overrides.models import AuditEntry, ChangeRequest
from routing import whatif_answer
from routing.bundle import forget_bundle
from telemetry.metrics import Key
from telemetry.usage import Usage
from tests import factories
from tests.commandcenter.html import hidden
from tests.overrides.people import REASON, someone
from tests.routing.cases import totals
from tests.routing.scenes import ranked_scope, snapshot

pytestmark = pytest.mark.django_db
PAGE = "/admin/center/whatif/"
HTMX = {"HX-Request": "true"}
Budget = Callable[..., AbstractContextManager[Any]]
#: By which the fast one wins instead of the cheap one.
FAST = {"weight_cost": "0.1", "weight_success": "0.2", "weight_latency": "0.7"}


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Client:
    ranked_scope(max_latency_p95_ms=5000)
    factories.tenant("borealis")
    factories.price(factories.profile("cheap"), "0.01", "0.02")
    factories.profile("spare", enabled=False)
    factories.profile("small", tier="slm")
    snapshot(incumbent=totals(cost="0.02", latency_ms=200), cheap=totals(cost="0.002", latency_ms=3000))
    used = {slug: Usage(400, 40_000, 40_000, 0) for slug in ("cheap", "incumbent")}
    completions = {("aurora", "essayist"): 1_000}
    monkeypatch.setattr(whatif_answer, "read_completions", lambda *_: completions)
    for name, tenant in (("read_usage", "aurora"), ("read_shared_usage", None)):
        kept = {Key(tenant, "essayist", slug): one for slug, one in used.items()}
        monkeypatch.setattr(whatif_answer, name, lambda *_, kept=kept: kept)
    return someone("anna", role="admin", may=("override_all_tenants",))


def words(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def look(client: Client, query: Mapping[str, Any]) -> Any:
    answer = client.get(PAGE, {"persona": "essayist", **query}, headers=HTMX)
    assert answer.status_code == 200, answer.content
    return answer


def save(client: Client, query: Mapping[str, Any], what: str, **more: Any) -> Any:
    """As the button of a part does, from the page as it is shown now."""
    fields = hidden(look(client, query).content.decode())
    return client.post(PAGE, {**fields, "what": what, "reason": REASON, **more}, headers=HTMX)


def test_the_page_shows_what_stands_and_asks_to_move_something(admin: Client) -> None:
    page = admin.get(PAGE)
    assert page.status_code == 200
    text = words(page)
    for word in ("Weights of essayist", "Nothing is moved yet", "disabled now", "tier slm is not enabled"):
        assert word in text, word
    assert 'value="0.5"' in page.content.decode()


def test_moving_weights_tells_flips_dollars_and_the_scope_s_page(admin: Client) -> None:
    answer = look(admin, FAST)
    text = words(answer)
    # 1,000 completions at $0.02 in place of $0.002
    for word in ("2 of 2 scopes", "+$18.00", "$2.00 → $20.00", "cheap", "incumbent", "0 → 0"):
        assert word in text, word
    assert "/admin/center/scopes/aurora/essayist/" in answer.content.decode()
    assert not AuditEntry.objects.exists()


def test_the_address_holds_what_is_changed_and_nothing_else(admin: Client) -> None:
    whole = {"form": "1", "min_success_rate": "0.60", "use": ["cheap"], "prompt:cheap": "0.01", "tenant": ""}
    answer = look(admin, {**whole, **FAST, "completion:cheap": "0.5"})
    told = parse_qs(urlsplit(answer["HX-Replace-Url"]).query)
    assert told == {
        "persona": ["essayist"],
        **{name: [value] for name, value in FAST.items()},
        "completion:cheap": ["0.5"],
        "out": ["incumbent"],
    }
    # Without a script the form itself leads to the same address, which shows the same.
    plain = admin.get(PAGE, {"persona": "essayist", **whole, **FAST, "completion:cheap": "0.5"})
    assert (plain.status_code, plain["Location"]) == (302, answer["HX-Replace-Url"])
    shared = words(admin.get(plain["Location"]))
    assert "What it would do" in shared
    assert "Winners that flip" in shared


def test_profiles_come_in_and_out(admin: Client) -> None:
    assert "Wins 2 → 0" not in words(look(admin, {"out": "cheap"}))
    text = words(look(admin, {"out": "cheap", "in": "spare"}))
    assert "The profiles that you changed" in text
    assert re.search(r"cheap 2 → 0", text), text
    assert re.search(r"spare 0 → 0", text), text


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"weight_cost": "0.9"}, "must sum to 1"),
        ({"min_success_rate": "1.5"}, "Success rate at least"),
        ({"min_samples": "many"}, "A valid integer is required"),
        ({"prompt:incumbent": "1"}, "no price in force"),
        ({"completion:cheap": "-1"}, "greater than or equal to 0"),
        ({"max_cost_per_completion": "0"}, "greater than or equal to 0.000001"),
    ],
)
def test_what_is_wrong_is_said_in_place_of_figures(admin: Client, query: dict[str, str], told: str) -> None:
    answer = look(admin, query)
    assert told in words(answer)
    assert "Winners that flip" not in words(answer)
    assert "Save" not in words(answer)


def test_weights_that_do_not_sum_to_1_are_rebalanced_by_a_link(admin: Client) -> None:
    page = look(admin, {"weight_cost": "0.5", "weight_success": "0.5", "weight_latency": "0.5"})
    found = re.search(r'href="([^"]*weight_cost[^"]*)"', page.content.decode())
    assert found
    told = parse_qs(urlsplit(found.group(1).replace("&amp;", "&")).query)
    sums = [Decimal(told[name][0]) for name in FAST]
    assert (sum(sums), sums[0]) == (1, Decimal("0.33"))


def test_nothing_to_compare_is_not_enough_data(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(incumbent=totals(cost="0.02", latency_ms=200), cheap=totals(n=3))
    assert "NaN" not in words(look(admin, {"out": "cheap"}))
    used: dict[Key, Usage] = {}
    for name in ("read_usage", "read_shared_usage"):
        monkeypatch.setattr(whatif_answer, name, lambda *_: used)
    text = words(look(admin, {"completion:cheap": "1"}))
    assert "cost unknown" in text or "Not proved" in text


def test_a_tenant_narrows_it_and_a_foreign_one_is_not_there(admin: Client) -> None:
    assert "1 of 1 scope" in words(look(admin, {**FAST, "tenant": "aurora"}))
    olga = someone("olga", at={"aurora": "operator"})
    answer = look(olga, FAST)
    assert "borealis" not in answer.content.decode()
    assert "1 of 1 scope" in words(answer)
    for query in ({"tenant": "borealis"}, {"tenant": "nobody"}, {"persona": "nobody"}):
        assert olga.get(PAGE, {**FAST, "persona": "essayist", **query}).status_code == 404
        assert olga.post(PAGE, {"persona": "essayist", **query}).status_code == 404


def test_saving_the_persona_is_audited_and_undone_from_the_toast(admin: Client) -> None:
    answer = save(admin, {**FAST, "out": "cheap"}, "persona")
    assert answer.status_code == 200, answer.content
    row = Persona.objects.get(slug="essayist")
    assert (row.weight_cost, row.weight_success, row.weight_latency) == tuple(map(Decimal, FAST.values()))
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.object_type, entry.reason) == ("user:anna", "persona", REASON)
    page = answer.content.decode()
    assert "Persona essayist is saved" in page
    # What was not saved is still asked, and the rest stands now.
    assert parse_qs(urlsplit(answer["HX-Replace-Url"]).query) == {"persona": ["essayist"], "out": ["cheap"]}
    assert "now 0.7" in words(answer)
    found = re.search(r"/audit/(\d+)/undo", page)
    assert found
    undo = {"key": "u", "reason": "Taken back from the toast", "toast": "1"}
    assert admin.post(f"/admin/center/audit/{found.group(1)}/undo", undo, headers=HTMX).status_code == 200
    assert Persona.objects.get(slug="essayist").weight_cost == Decimal("0.5")
    assert ModelProfile.objects.get(slug="cheap").enabled


def test_saving_a_profile_is_a_change_of_the_catalogue(admin: Client) -> None:
    query = {"out": "cheap", "completion:cheap": "0.5", **FAST}
    answer = save(admin, query, "profile:cheap")
    assert answer.status_code == 200, answer.content
    cheap = ModelProfile.objects.get(slug="cheap")
    assert not cheap.enabled
    newest, oldest = PriceRevision.objects.filter(profile=cheap)
    assert (newest.completion_per_1k, newest.prompt_per_1k) == (Decimal("0.5"), Decimal("0.01"))
    assert (oldest.completion_per_1k, newest.valid_from > oldest.valid_from) == (Decimal("0.02"), True)
    assert AuditEntry.objects.get().object_type == "modelprofile"
    assert Persona.objects.get(slug="essayist").weight_cost == Decimal("0.5")
    found = re.search(r"/audit/(\d+)/undo", answer.content.decode())
    assert found
    admin.post(f"/admin/center/audit/{found.group(1)}/undo", {"key": "u", "reason": REASON}, headers=HTMX)
    assert (ModelProfile.objects.get(slug="cheap").enabled, PriceRevision.objects.count()) == (True, 1)


def test_a_default_is_not_disabled_and_that_is_said(admin: Client) -> None:
    answer = save(admin, {"out": "incumbent"}, "profile:incumbent")
    assert answer.status_code == 400
    assert "is the default of persona essayist" in words(answer)
    assert ModelProfile.objects.get(slug="incumbent").enabled


def test_a_double_click_is_one_change(admin: Client) -> None:
    fields = hidden(look(admin, FAST).content.decode())
    body = {**fields, "what": "persona", "reason": REASON}
    assert [admin.post(PAGE, body, headers=HTMX).status_code for _ in range(2)] == [200, 200]
    assert AuditEntry.objects.count() == 1
    other = admin.post(PAGE, {**body, "weight_cost": "0.2", "weight_latency": "0.6"}, headers=HTMX)
    assert other.status_code in (400, 409)
    assert AuditEntry.objects.count() == 1


def test_a_reason_is_needed(admin: Client) -> None:
    answer = save(admin, FAST, "persona", reason="short")
    assert (answer.status_code, answer["HX-Retarget"]) == (400, "#outcome")
    assert "10 characters" in words(answer)
    assert not AuditEntry.objects.exists()
    assert admin.post(PAGE, {"persona": "essayist", "what": "tenant", "reason": REASON}).status_code == 400


def test_what_somebody_did_meanwhile_is_shown_beside_ones_own(admin: Client) -> None:
    fields = hidden(look(admin, FAST).content.decode())
    carl = someone("carl", role="admin", may=("override_all_tenants",))
    other = {"weight_cost": "0.6", "weight_success": "0.3", "weight_latency": "0.1"}
    assert save(carl, other, "persona", reason="I know better than that").status_code == 200
    late = admin.post(PAGE, {**fields, "what": "persona", "reason": REASON}, headers=HTMX)
    assert late.status_code == 409
    for word in ("was changed by user:carl", "I know better than that", "weight_cost: 0.6", "Cost: 0.1"):
        assert word in words(late), word
    assert Persona.objects.get().weight_cost == Decimal("0.6")
    again = admin.post(
        PAGE, {**hidden(late.content.decode()), "what": "persona", "reason": REASON}, headers=HTMX
    )
    assert (again.status_code, Persona.objects.get().weight_cost) == (200, Decimal("0.1"))
    stale = hidden(look(admin, {"out": "cheap"}).content.decode())
    factories.price(
        ModelProfile.objects.get(slug="cheap"), "1", "1", valid_from=Persona.objects.get().updated_at
    )
    conflict = admin.post(PAGE, {**stale, "what": "profile:cheap", "reason": REASON}, headers=HTMX)
    assert conflict.status_code == 409
    assert "was changed meanwhile" in words(conflict)


def test_under_four_eyes_it_waits(admin: Client) -> None:
    Persona.objects.filter(slug="essayist").update(four_eyes=True)
    answer = save(admin, FAST, "persona")
    assert f"change request {ChangeRequest.objects.get().pk} waits for somebody else" in words(answer)
    assert Persona.objects.get(slug="essayist").weight_cost == Decimal("0.5")


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_may_not_sees_the_control_disabled_and_gets_a_403(admin: Client, role: str) -> None:
    them = someone("vera", role=role)
    answer = look(them, {**FAST, "out": "cheap"})
    for word in ("This takes the rights “personas” and", "This takes the right “catalogue” at all tenants"):
        assert word in words(answer), word
    assert answer.content.decode().count("disabled") >= 2
    for what in ("persona", "profile:cheap"):
        assert save(them, {**FAST, "out": "cheap"}, what).status_code == 403
    assert not AuditEntry.objects.exists()


def test_without_a_script_it_is_saved_and_said(admin: Client) -> None:
    fields = hidden(look(admin, FAST).content.decode())
    refused = admin.post(PAGE, {**fields, "what": "persona", "reason": "short"})
    assert (refused.status_code, "<html" in refused.content.decode()) == (400, True)
    answer = admin.post(PAGE, {**fields, "what": "persona", "reason": REASON}, follow=True)
    assert answer.redirect_chain
    assert "Persona essayist is saved" in words(answer)


@pytest.mark.parametrize("tenants", [2, 200])
def test_it_takes_few_queries_however_many_tenants_and_profiles(
    admin: Client, admin_client: Client, django_assert_max_num_queries: Budget, tenants: int
) -> None:
    for number in range(tenants):
        factories.tenant(f"tenant-{number}")
        if number < 30:
            factories.price(factories.profile(f"extra-{number}"))
    forget_bundle()
    query = {"persona": "essayist", **FAST, "completion:cheap": "0.5", "out": "extra-1", "in": "spare"}
    admin_client.get(PAGE, query)
    for headers in ({}, HTMX):
        with django_assert_max_num_queries(12):
            page = admin_client.get(PAGE, query, headers=headers).content.decode()
    assert page.count("data-row") <= 25


def test_without_personas_there_is_a_next_step(client: Client, admin_client: Client) -> None:
    assert "Add a persona" in words(admin_client.get(PAGE))
