"""Decisions are committed with the answer, asked once per request_id, found again and replayed."""

import json
import uuid
import zlib
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from catalog.models import ModelProfile
from routing.archive import archive, pack
from routing.engine import canonical_json
from routing.models import ConversationSelection, PolicyRevision, ScoreSnapshot, Selection
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import ASKED, flip, ranked_scope, snapshot

pytestmark = pytest.mark.django_db
URL = "/api/v1/selections"


@pytest.fixture
def key() -> dict[str, str]:
    ranked_scope(switch_margin="0.2")
    return factories.key("select", "read")


def ask(client: Client, key: dict[str, str], **asked: Any) -> dict[str, Any]:
    response = client.post(URL, {**ASKED, **asked}, content_type="application/json", headers=key)
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    return body


def explain(client: Client, key: dict[str, str], decision_id: str) -> Any:
    return client.get(f"{URL}/{decision_id}", headers=key)


def test_a_decision_is_stored_before_it_is_answered(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    row = Selection.objects.get(decision_id=told["decision_id"])
    core = {name: value for name, value in told.items() if name != "candidates"}
    assert row.core == canonical_json(core).decode()
    assert (row.profile, row.reason, row.source, row.in_clickhouse) == ("cheap", "ranked", "remote", False)
    last = ConversationSelection.objects.get()
    assert (last.profile, str(last.decision_id)) == ("cheap", told["decision_id"])


def test_an_answer_without_candidates_is_the_same_decision(client: Client, key: dict[str, str]) -> None:
    first = ask(client, key, request_id="r-1", candidates=False)
    assert "candidates" not in first
    full = ask(client, key, request_id="r-1")
    assert {**first, "candidates": full["candidates"]} == full
    assert explain(client, key, first["decision_id"]).json()["candidates"] == full["candidates"]


def test_a_conversation_stays_with_its_profile_while_the_margin_holds(
    client: Client, key: dict[str, str]
) -> None:
    assert ask(client, key)["reason"] == "ranked"
    factories.profile("cheaper")
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"), cheaper=totals(cost="0.001"))
    told = ask(client, key)
    assert (told["profile"]["slug"], told["reason"], told["last_profile"]) == ("cheap", "sticky", "cheap")
    assert ask(client, key, conversation_id="c-2")["profile"]["slug"] == "cheaper"


def test_conversations_of_two_tenants_with_one_name_do_not_meet(client: Client, key: dict[str, str]) -> None:
    other = factories.key("select", tenants=("borealis",))
    ask(client, key)
    assert ask(client, other, tenant="borealis")["last_profile"] is None


def test_a_worker_excludes_what_just_failed(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key, exclude=["cheap", "cheap"])
    assert (told["profile"]["slug"], told["exclude"], told["fallback"]) == ("incumbent", ["cheap"], [])


def test_everything_excluded_is_a_problem(client: Client, key: dict[str, str]) -> None:
    body = {**ASKED, "exclude": ["cheap", "incumbent"]}
    response = client.post(URL, body, content_type="application/json", headers=key)
    assert (response.status_code, response.json()["code"]) == (409, "all_excluded")
    assert not Selection.objects.exists()


def test_holdout_and_exploration_come_from_the_persona(client: Client) -> None:
    ranked_scope(holdout_share="1")
    key = factories.key("select")
    told = ask(client, key)
    assert (told["reason"], told["profile"]["slug"], told["propensity"]) == ("holdout", "incumbent", 1.0)


def test_an_unproven_profile_is_explored(client: Client) -> None:
    ranked_scope(exploration_share="1")
    factories.profile("new")
    snapshot(incumbent=totals(cost="0.02"), cheap=totals(cost="0.002"), new=totals(n=5))
    told = ask(client, factories.key("select"))
    assert (told["reason"], told["profile"]["slug"]) == ("explore", "new")


def test_the_same_request_id_gets_the_same_answer_and_one_row(client: Client, key: dict[str, str]) -> None:
    first = ask(client, key, request_id="r-1", task="essay", exclude=["b", "a"])
    snapshot(incumbent=totals(cost="0.001"), cheap=totals(cost="0.02"))
    assert ask(client, key, request_id="r-1", task="essay", exclude=["a", "b"]) == first
    assert Selection.objects.count() == 1


@pytest.mark.parametrize(
    "other", [{"conversation_id": "c-2"}, {"task": "code"}, {"exclude": ["x"]}, {"persona": "coder"}]
)
def test_a_request_id_for_another_request_is_a_conflict(
    client: Client, key: dict[str, str], other: dict[str, Any]
) -> None:
    factories.persona("coder")
    ask(client, key, request_id="r-1")
    body = {**ASKED, "request_id": "r-1", **other}
    response = client.post(URL, body, content_type="application/json", headers=key)
    assert (response.status_code, response.json()["code"]) == (409, "request_id_reused")
    assert Selection.objects.count() == 1


def test_a_request_id_belongs_to_its_tenant(client: Client, key: dict[str, str]) -> None:
    other = factories.key("select", tenants=("borealis",))
    mine = ask(client, key, request_id="r-1")
    assert ask(client, other, tenant="borealis", request_id="r-1")["decision_id"] != mine["decision_id"]


def test_a_stored_decision_is_decided_again_byte_for_byte(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    # Policy moves on; the decision's own is archived.
    ModelProfile.objects.filter(slug="cheap").update(enabled=False)
    flip(0)
    again = explain(client, key, told["decision_id"]).json()
    assert again["replay"] == {
        "verdict": "equal",
        "detail": "Decided again from the archived policy and snapshot: equal, byte for byte.",
        "differences": [],
    }
    assert {name: again[name] for name in told} == told


def test_an_altered_decision_is_found_and_named(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    row = Selection.objects.get()
    core = json.loads(row.core)
    core["profile"]["slug"] = "incumbent"
    core["propensity"] = 0.5
    Selection.objects.update(core=canonical_json(core).decode())
    again = explain(client, key, told["decision_id"]).json()
    assert (again["replay"]["verdict"], again["replay"]["differences"]) == (
        "different",
        ["profile", "propensity"],
    )
    assert again["candidates"] == []


def test_without_its_snapshot_a_replay_is_impossible_and_says_so(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    ScoreSnapshot.objects.all().delete()
    again = explain(client, key, told["decision_id"]).json()["replay"]
    assert again["verdict"] == "impossible"
    assert "is not kept" in again["detail"]


def test_a_damaged_policy_never_replays(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    revision = PolicyRevision.objects.latest("id")
    damaged = zlib.compress(zlib.decompress(bytes(revision.payload)).replace(b"incumbent", b"imposters"))
    PolicyRevision.objects.all().delete()
    PolicyRevision.objects.create(
        name=revision.name, created_at=revision.created_at, checksum=revision.checksum, payload=damaged
    )
    archive.forget()
    assert explain(client, key, told["decision_id"]).json()["replay"]["verdict"] == "impossible"


def test_one_policy_is_archived_once_whatever_the_number_of_processes(
    client: Client, key: dict[str, str]
) -> None:
    for number in range(3):
        ask(client, key, conversation_id=f"c-{number}")
        snapshot(incumbent=totals(), cheap=totals(cost="0.002"))
    assert PolicyRevision.objects.count() == 1
    revision = PolicyRevision.objects.get()
    assert revision.name.endswith(revision.checksum[:12])
    assert pack({}) != pack([])


def test_the_explain_command_tells_and_exits_by_the_verdict(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    out = StringIO()
    call_command("explain", told["decision_id"], stdout=out)
    assert out.getvalue().startswith("cheap  (ranked, decided by remote)")
    assert "equal, byte for byte" in out.getvalue()
    assert "lost by" in out.getvalue()
    out = StringIO()
    call_command("explain", told["decision_id"], json=True, stdout=out)
    assert json.loads(out.getvalue())["decision_id"] == told["decision_id"]
    ScoreSnapshot.objects.all().delete()
    archive.forget()
    with pytest.raises(CommandError, match="is not kept"):
        call_command("explain", told["decision_id"], stdout=StringIO())
    with pytest.raises(CommandError, match="There is no decision"):
        call_command("explain", str(uuid.uuid4()))


def test_the_admin_finds_a_decision_by_its_id_and_explains_it(
    client: Client, key: dict[str, str], admin_client: Client
) -> None:
    told = ask(client, key)
    ask(client, key, conversation_id="c-2")
    listed = admin_client.get("/admin/routing/selection/", {"q": told["decision_id"]}).content.decode()
    assert "1 selection" in listed
    row = Selection.objects.get(decision_id=told["decision_id"])
    shown = admin_client.get(f"/admin/routing/selection/{row.pk}/change/").content.decode()
    assert "equal, byte for byte" in shown
    assert "lost by" in shown
    assert "1 selection" in admin_client.get("/admin/routing/selection/", {"q": "c-2"}).content.decode()


def test_a_conversation_shows_its_last_selection(client: Client, key: dict[str, str]) -> None:
    ask(client, key, conversation_id="a/b c")
    told = ask(client, key, conversation_id="a/b c", task="essay")
    body = client.get("/api/v1/conversations/a%2Fb%20c/selection", headers=key).json()
    assert (body["decision_id"], body["replay"]["verdict"]) == (told["decision_id"], "equal")
    named = {"tenant": "aurora", "persona": "essayist"}
    assert client.get("/api/v1/conversations/a%2Fb%20c/selection", named, headers=key).status_code == 200


def test_who_sees_several_tenants_names_one(client: Client, key: dict[str, str]) -> None:
    ask(client, key)
    everybody = factories.key("read", tenants=())
    url = "/api/v1/conversations/c-1/selection"
    assert client.get(url, headers=everybody).json()["code"] == "tenant_needed"
    assert client.get(url, {"tenant": "aurora"}, headers=everybody).status_code == 200


def test_a_foreign_selection_or_conversation_is_like_one_that_is_not_there(
    client: Client, key: dict[str, str]
) -> None:
    told = ask(client, key)
    foreign = factories.key("read", tenants=("borealis",))
    there = explain(client, foreign, told["decision_id"])
    absent = explain(client, foreign, str(uuid.uuid4()))
    assert there.status_code == 404
    assert factories.told(there) == factories.told(absent)
    url = "/api/v1/conversations/{}/selection".format
    answers = [client.get(url(name), headers=foreign) for name in ("c-1", "c-9")]
    assert factories.told(answers[0]) == factories.told(answers[1])
    assert client.get(url("c-1"), {"tenant": "aurora"}, headers=foreign).status_code == 404


def test_looking_up_needs_the_verb_read(client: Client, key: dict[str, str]) -> None:
    told = ask(client, key)
    assert explain(client, factories.key("select"), told["decision_id"]).status_code == 403
    assert explain(client, {}, told["decision_id"]).status_code == 401
