"""router.selection events: the frozen schema, and the way from the outbox to ClickHouse, once in effect."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
from django.test import Client
from django.utils import timezone

from routing import archive, events, snapshots, tasks
from routing.events import SCHEMA_FILE, event_of, publish
from routing.models import ConversationSelection, PolicyRevision, ScoreSnapshot, Selection
from telemetry.clickhouse import ClickHouse, ClickHouseUnavailable
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import ASKED, ranked_scope, snapshot

pytestmark = pytest.mark.django_db
FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER
#: A changed meaning is a new file, v2, beside this one.
FROZEN = {
    "router-selection-v1.json": "062dc0f98cfec179ac17ac0a528caff528834ac8d4b5e755390a60921ef6fc48",
    "router-alert-v1.json": "3688f08bab5a11dea3acdc817de05e70a8dd5e394832b8b0a1b9e7975743fb58",
}


def validate(event: Any, name: str = "router-selection-v1.json") -> None:
    schema = json.loads(SCHEMA_FILE.with_name(name).read_text())
    jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(event)


@pytest.fixture
def asked(client: Client) -> list[dict[str, Any]]:
    ranked_scope()
    key = factories.key("select")
    return [
        client.post(
            "/api/v1/selections",
            {**ASKED, "conversation_id": f"c-{n}"},
            content_type="application/json",
            headers=key,
        ).json()
        for n in range(3)
    ]


def stored(door: ClickHouse) -> list[dict[str, Any]]:
    return door.query("SELECT * FROM selections FINAL ORDER BY decided_us")


@pytest.mark.parametrize("name", FROZEN)
def test_the_published_schemas_of_v1_never_change(name: str, client: Client) -> None:
    body = SCHEMA_FILE.with_name(name).read_bytes()
    assert hashlib.sha256(body).hexdigest() == FROZEN[name]
    served = client.get(json.loads(body)["$id"])
    assert served.content == body


def test_an_event_is_a_cloudevent_of_the_frozen_schema(asked: list[dict[str, Any]]) -> None:
    row = Selection.objects.get(decision_id=asked[0]["decision_id"])
    event = event_of(row).body
    validate(event)
    data = event["data"]
    assert (event["id"], event["type"], event["subject"]) == (
        asked[0]["decision_id"],
        "router.selection",
        "aurora/essayist",
    )
    assert (data["profile"], data["replay"], data["candidates_complete"]) == ("cheap", "equal", True)
    assert [card["profile"] for card in data["candidates"]] == ["cheap", "incumbent"]
    assert data["candidates"][1]["lost"].startswith("lost by")
    assert data["attributes"]["gen_ai.request.model"] == "cheap"
    assert data["attributes"]["server.address"] == "api.example.com"


def test_an_event_of_a_decision_that_cannot_be_replayed_says_so(asked: list[dict[str, Any]]) -> None:
    ScoreSnapshot.objects.all().delete()
    event = event_of(Selection.objects.first() or pytest.fail("none")).body
    validate(event)
    assert (event["data"]["replay"], event["data"]["candidates"]) == ("impossible", [])


def test_decisions_reach_clickhouse_and_are_marked(asked: list[dict[str, Any]], door: ClickHouse) -> None:
    assert publish(door, most=2) == 2
    assert publish(door, most=2) == 1
    assert publish(door, most=2) == 0
    rows = stored(door)
    assert [str(row["decision_id"]) for row in rows] == [told["decision_id"] for told in asked]
    assert {(row["reason"], row["replay"], row["source"]) for row in rows} == {("ranked", "equal", "remote")}
    validate(json.loads(rows[0]["event"]))
    assert set(Selection.objects.values_list("in_clickhouse", "replay")) == {(True, "equal")}


def test_sent_again_after_a_kill_a_decision_is_still_one_row(
    asked: list[dict[str, Any]], door: ClickHouse
) -> None:
    for _ in range(3):
        publish(door, most=10)
        Selection.objects.update(in_clickhouse=False)
    assert len(stored(door)) == 3


def test_while_clickhouse_is_away_decisions_wait(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def insert(self, *_: Any) -> None:
            raise ClickHouseUnavailable("away")

    monkeypatch.setattr(tasks, "get_clickhouse", Away)
    assert tasks.publish_selections() == 0
    assert Selection.objects.filter(in_clickhouse=False).count() == 3


def test_old_decisions_go_when_published_and_then_what_only_they_were_made_from(
    asked: list[dict[str, Any]], door: ClickHouse
) -> None:
    snapshot(incumbent=totals(), cheap=totals())
    later = timezone.now() + timedelta(days=31)
    assert snapshots.prune(later) == 0  # both are used or the newest
    assert archive.prune(later) == 0
    assert events.prune(later) == 0  # not published yet
    publish(door, most=10)
    Selection.objects.update(fanned_out=True)
    PolicyRevision.objects.create(name="0-new", created_at=timezone.now(), checksum="", payload=b"")
    assert events.prune(later) == 3
    assert not ConversationSelection.objects.exists()
    assert snapshots.prune(later) == 1
    assert archive.prune(later) == 1
