"""The policy bundle for workers, and their decisions back: the same answers, judged one by one."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.models import ModelProfile
from routing.bundle import forget_bundle
from routing.engine import Bundle, SelectionProblem, canonical_json, decide
from routing.models import ConversationSelection, Selection
from routing.serving import PolicyServer
from tests import factories
from tests.routing.cases import NOW, bundle, request
from tests.routing.scenes import ASKED, ranked_scope
from tests.routing.test_rules import policies

pytestmark = pytest.mark.django_db
URL = "/api/v1/policy"
BATCH = "/api/v1/selections/batch"


@pytest.fixture
def key() -> dict[str, str]:
    ranked_scope()
    factories.tenant("borealis")
    return factories.key("select", "read")


def policy(client: Client, key: dict[str, str], **headers: str) -> Any:
    return client.get(URL, headers={**key, **headers})


def local(client: Client, key: dict[str, str], **asked: Any) -> dict[str, Any]:
    """A decision as a worker makes it by the bundle."""
    found = Bundle.from_dict(policy(client, key).json())
    at = asked.pop("at", timezone.now())
    return decide(found, request(asked.pop("conversation_id", "c-1"), at, **asked)).core()


def report(client: Client, key: dict[str, str], *decisions: Any) -> Any:
    return client.post(BATCH, {"decisions": decisions}, content_type="application/json", headers=key)


def test_a_worker_decides_by_the_bundle_as_the_service_does(client: Client, key: dict[str, str]) -> None:
    told = client.post("/api/v1/selections", ASKED, content_type="application/json", headers=key).json()
    found = Bundle.from_dict(policy(client, key).json())
    from datetime import datetime

    again = decide(found, request("c-1", datetime.fromisoformat(told["decided_at"])))
    assert canonical_json(again.to_dict()) == canonical_json(told)


def test_the_bundle_holds_the_keys_tenants_only(client: Client, key: dict[str, str]) -> None:
    body = policy(client, key).json()
    assert set(body["tenants"]) == {"aurora"}
    assert set(body["snapshot"]["scopes"]) == {"aurora"}
    everybody = policy(client, factories.key("select", tenants=())).json()
    assert set(everybody["tenants"]) == {"aurora", "borealis"}


def test_what_has_not_changed_is_not_sent_again(client: Client, key: dict[str, str], settings: Any) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    forget_bundle()
    first = policy(client, key)
    again = policy(client, key, **{"If-None-Match": f'"other", {first["ETag"]}'})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    ModelProfile.objects.filter(slug="cheap").update(enabled=False)
    changed = policy(client, key, **{"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]


def test_it_is_gzipped_for_those_who_take_it(client: Client, key: dict[str, str]) -> None:
    plain = policy(client, key)
    packed = policy(client, key, **{"Accept-Encoding": "gzip"})
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content
    assert "Authorization" in packed["Vary"]


def test_the_bundle_needs_the_verb_select(client: Client, key: dict[str, str]) -> None:
    assert policy(client, factories.key("read")).status_code == 403
    assert policy(client, {}).status_code == 401


def test_500_cold_callers_at_once_make_it_build_once() -> None:
    server, found = PolicyServer(), bundle()
    with ThreadPoolExecutor(32) as pool:
        served = list(pool.map(lambda _: server.serve(found, frozenset({"aurora"})), range(500)))
    assert server.built == 1
    assert len({id(one) for one in served}) == 1


@settings(max_examples=300)
@given(policies, st.text(min_size=1, max_size=10), st.sampled_from([None, "p0", "incumbent"]))
def test_what_a_tenant_may_see_decides_like_the_whole(
    found: Bundle, conversation: str, last: str | None
) -> None:
    asked = request(conversation, last_profile=last)
    travelled = Bundle.from_dict(
        json.loads(canonical_json(found.for_tenants(frozenset({"aurora"})).to_dict()))
    )
    assert canonical_json(decide(travelled, asked).to_dict()) == canonical_json(
        decide(found, asked).to_dict()
    )


def test_ten_thousand_local_and_remote_decisions_agree() -> None:
    from tests.routing.test_rules import POOL
    from tests.routing.test_rules import policy as by_rules

    found = by_rules(*POOL, holdout_share=0.1, exploration_share=0.2, switch_margin=0.05)
    travelled = Bundle.from_dict(
        json.loads(canonical_json(found.for_tenants(frozenset({"aurora"})).to_dict()))
    )
    lasts = [None, "best", "next", "far", "new-1"]
    excludes: list[tuple[str, ...]] = [(), ("best",), ("incumbent",), ("best", "next", "far", "incumbent")]
    for number in range(10_000):
        asked = request(
            f"c-{number}",
            NOW + timedelta(seconds=number % 1200),
            last_profile=lasts[number % 5],
            exclude=excludes[number % 4],
        )
        answers = []
        for one in (found, travelled):
            try:
                answers.append(canonical_json(decide(one, asked).to_dict()))
            except SelectionProblem as problem:
                answers.append(problem.code.encode())
        assert answers[0] == answers[1]


def test_reported_decisions_are_recorded_and_replay_equal(client: Client, key: dict[str, str]) -> None:
    told = local(client, key)
    answer = report(client, key, told)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
    row = Selection.objects.get()
    assert (row.source, row.profile, row.core) == ("local", "cheap", canonical_json(told).decode())
    shown = client.get(f"/api/v1/selections/{told['decision_id']}", headers=key).json()
    assert (shown["decided_by"], shown["replay"]["verdict"]) == ("local", "equal")
    assert ConversationSelection.objects.get().profile == "cheap"


def test_reported_twice_a_decision_is_recorded_once(client: Client, key: dict[str, str]) -> None:
    told = local(client, key)
    report(client, key, told, told)
    assert report(client, key, told).status_code == 202
    assert Selection.objects.count() == 1


def test_a_known_decision_with_other_content_is_refused(client: Client, key: dict[str, str]) -> None:
    told = local(client, key)
    both = report(client, key, told, {**told, "propensity": 0.5}).json()
    assert (both["accepted"], both["rejected"][0]["code"]) == (1, "conflict")
    again = report(client, key, {**told, "explanation": "because"})
    assert (again.status_code, again.json()["rejected"][0]["code"]) == (422, "conflict")
    assert Selection.objects.count() == 1


def test_a_late_report_does_not_overwrite_what_a_conversation_was_given_since(
    client: Client, key: dict[str, str]
) -> None:
    late = local(client, key, at=timezone.now() - timedelta(minutes=10))
    client.post(
        "/api/v1/selections", {**ASKED, "exclude": ["cheap"]}, content_type="application/json", headers=key
    )
    report(client, key, late)
    assert ConversationSelection.objects.get().profile == "incumbent"
    assert Selection.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"tenant": "borealis"}, "unknown_tenant"),
        ({"tenant": "nowhere"}, "unknown_tenant"),
        ({"persona": "nobody"}, "unknown_persona"),
        ({"reason": "because"}, "invalid_field"),
        ({"propensity": 0}, "invalid_field"),
        ({"propensity": 1.5}, "invalid_field"),
        ({"decided_at": "2020-01-01T00:00:00+00:00"}, "too_late"),
        ({"decided_at": "2120-01-01T00:00:00+00:00"}, "in_future"),
        ({"decided_at": "2026-01-01T00:00:00"}, "invalid_field"),
        ({"decision_id": "x"}, "invalid_field"),
        ({"bundle_version": "1.1"}, "invalid_field"),
        ({"bundle_version": "1-0123456789ab.99999999999999999999"}, "invalid_field"),
        ({"conversation_id": "a\x00b"}, "invalid_field"),
        ({"exclude": ["x"] * 51}, "invalid_field"),
        ({"mass": "assignment"}, "invalid_field"),
        ({"source": "remote"}, "invalid_field"),
        ({"decision_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "invalid_field"),
        ({"conversation_id": "another"}, "invalid_field"),
    ],
)
def test_a_bad_decision_is_refused_alone_and_its_siblings_are_kept(
    client: Client, key: dict[str, str], change: dict[str, Any], code: str
) -> None:
    told = local(client, key)
    answer = report(client, key, {**told, **change}, told, "text", None)
    assert answer.status_code == 202, answer.content
    body = answer.json()
    assert (body["accepted"], [one["index"] for one in body["rejected"]]) == (1, [0, 2, 3])
    assert body["rejected"][0]["code"] == code
    assert body["rejected"][0]["detail"]
    assert Selection.objects.count() == 1


def test_a_batch_of_only_bad_decisions_is_422(client: Client, key: dict[str, str]) -> None:
    answer = report(client, key, {}, 7)
    assert (answer.status_code, answer.json()["code"], answer.json()["accepted"]) == (422, "all_rejected", 0)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"decisions": []}', b'{"decisions": 3}', b"null", b"{}"])
def test_what_is_no_batch_is_a_400(client: Client, key: dict[str, str], body: bytes) -> None:
    answer = client.post(BATCH, body, content_type="application/json", headers=key)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")


def test_a_false_report_is_found_when_its_event_is_made(client: Client, key: dict[str, str]) -> None:
    from routing.replay import replay

    told = local(client, key)
    report(client, key, {**told, "propensity": 0.5})
    assert replay(Selection.objects.get()).differences == ("propensity",)
