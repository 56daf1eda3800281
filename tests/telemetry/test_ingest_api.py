"""POST /api/v1/telemetry/completions, through the front door."""

import gzip
import json
import time
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.test import Client
from django.utils import timezone

from telemetry.events import COLUMNS
from telemetry.models import QuarantineCount, QuarantinedEvent, SpoolBatch
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/telemetry/completions"


@pytest.fixture
def key() -> dict[str, str]:
    factories.scope()
    return factories.key("ingest")


def event(**fields: Any) -> dict[str, Any]:
    return factories.event(**{"occurred_at": timezone.now().isoformat(), **fields})


def post(client: Client, key: dict[str, str], body: Any, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    content_type = headers.pop("content_type", "application/json")
    return client.post(URL, raw, content_type=content_type, headers={**key, **headers})


def spooled() -> list[dict[str, Any]]:
    rows = [row for batch in SpoolBatch.objects.all() for row in orjson.loads(bytes(batch.payload))]
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def test_an_array_of_events_is_in_the_spool_when_the_answer_is_202(
    client: Client, key: dict[str, str]
) -> None:
    answer = post(client, key, [event(), event()])
    assert answer.status_code == 202
    assert answer.json() == {"accepted": 2, "rejected": []}
    assert len(spooled()) == 2


def test_ndjson_is_taken_too(client: Client, key: dict[str, str]) -> None:
    body = b"\n".join(json.dumps(event()).encode() for _ in range(3)) + b"\n\n"
    assert post(client, key, body, content_type="application/x-ndjson").json()["accepted"] == 3


def test_gzip_is_unpacked(client: Client, key: dict[str, str]) -> None:
    body = gzip.compress(json.dumps([event()]).encode())
    assert post(client, key, body, **{"Content-Encoding": "gzip"}).json()["accepted"] == 1


def test_bad_events_come_back_with_index_and_reason_and_good_siblings_are_kept(
    client: Client, key: dict[str, str]
) -> None:
    now = timezone.now()
    batch = [
        event(),
        event(latency_ms=-1),
        event(occurred_at=(now + timedelta(minutes=6)).isoformat()),
        event(occurred_at=(now - timedelta(hours=49)).isoformat()),
        event(persona="nobody"),
        event(profile="gpt-99"),
        "not an object",
        event(cached_tokens=101),
        event(),
    ]
    answer = post(client, key, batch)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert [(r["index"], r["code"]) for r in answer.json()["rejected"]] == [
        (1, "invalid_field"),
        (2, "in_future"),
        (3, "too_late"),
        (4, "unknown_persona"),
        (5, "unknown_profile"),
        (6, "not_an_object"),
        (7, "invalid_field"),
    ]
    assert len(spooled()) == 2


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_costs_only_its_own_event(
    client: Client, key: dict[str, str], number: str
) -> None:
    bad = json.dumps(event(latency_ms=0)).replace('"latency_ms": 0', f'"latency_ms": {number}')
    answer = post(client, key, f"[{json.dumps(event())},{bad},{json.dumps(event())}]".encode())
    assert answer.json()["accepted"] == 2
    assert [r["index"] for r in answer.json()["rejected"]] == [1]


def test_bad_utf8_costs_only_its_own_event(client: Client, key: dict[str, str]) -> None:
    bad = json.dumps(event(conversation_id="XX")).encode().replace(b"XX", b"\xff\xfe")
    good = json.dumps(event()).encode()
    array = post(client, key, b"[" + bad + b"," + good + b"]")
    lines = post(client, key, bad + b"\n" + good)
    for answer in (array, lines):
        assert answer.status_code == 202
        assert (answer.json()["accepted"], answer.json()["rejected"][0]["index"]) == (1, 0)


def test_nul_bytes_are_refused_and_kept_readable_in_quarantine(client: Client, key: dict[str, str]) -> None:
    answer = post(client, key, [event(conversation_id="a\x00b"), event()])
    assert answer.json()["rejected"][0]["code"] == "invalid_field"
    assert "\x00" not in QuarantinedEvent.objects.get().raw


def test_refused_events_are_counted_and_kept_with_their_reason(client: Client, key: dict[str, str]) -> None:
    post(client, key, [event(latency_ms=-1), event(latency_ms=-2), event(profile="gpt-99"), event()])
    assert dict(QuarantineCount.objects.values_list("code", "count")) == {
        "invalid_field": 2,
        "unknown_profile": 1,
    }
    kept = QuarantinedEvent.objects.get(code="unknown_profile")
    assert kept.tenant == "aurora"
    assert json.loads(kept.raw)["profile"] == "gpt-99"


def test_a_foreign_tenant_reads_like_one_that_does_not_exist(client: Client, key: dict[str, str]) -> None:
    factories.tenant("borealis")
    answer = post(client, key, [event(tenant="borealis"), event(tenant="nowhere"), event()])
    foreign, absent = answer.json()["rejected"]
    assert foreign["detail"].replace("borealis", "nowhere") == absent["detail"]
    assert QuarantinedEvent.objects.filter(tenant="borealis").count() == 0


def test_a_batch_without_one_good_event_is_a_422_that_says_why(client: Client, key: dict[str, str]) -> None:
    answer = post(client, key, [event(tenant="borealis")])
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["rejected"][0]["code"] == "unknown_tenant"
    assert QuarantineCount.objects.get().count == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "empty_batch"),
        (b"[]", {}, 400, "empty_batch"),
        (b"[{", {}, 400, "invalid_json"),
        (b"[" * 100_000, {}, 400, "invalid_json"),
        (b"[" + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]", {}, 400, "invalid_json"),
        (b" " * 2_000_001, {}, 413, "too_large"),
        (b"x" * 10_000_000, {}, 413, "too_large"),
        (gzip.compress(b" " * 50_000_000, mtime=0), {"Content-Encoding": "gzip"}, 413, "too_large"),
        (b"not gzip", {"Content-Encoding": "gzip"}, 400, "invalid_gzip"),
        (gzip.compress(b"[{}]" * 1000, mtime=0)[:-9], {"Content-Encoding": "gzip"}, 400, "invalid_gzip"),
        (b"x", {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
        (b"x", {"content_type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type"),
        (b"[" + b"{}," * 1000 + b"{}]", {}, 413, "too_many_events"),
        (b"{}\n" * 1001, {}, 413, "too_many_events"),
    ],
)
def test_a_body_that_cannot_be_read_is_a_clear_4xx_and_nothing_of_it_is_taken(
    client: Client, key: dict[str, str], body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = post(client, key, body, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["detail"]
    assert SpoolBatch.objects.count() == 0


def test_without_a_key_it_is_401_and_without_the_verb_403(client: Client, key: dict[str, str]) -> None:
    assert post(client, {}, [event()]).status_code == 401
    assert post(client, {"Authorization": "Api-Key nonsense.key"}, [event()]).status_code == 401
    refused = post(client, factories.key("select", "read"), [event()])
    assert refused.status_code == 403
    assert "ingest" in refused.json()["detail"]


def test_a_cost_that_is_absent_is_derived_from_the_price_in_force_then(
    client: Client, key: dict[str, str]
) -> None:
    now = timezone.now()
    profile = factories.profile()
    factories.price(profile, "1", "2", valid_from=now - timedelta(days=2), cached_per_1k=Decimal("0.5"))
    factories.price(profile, "10", "20", valid_from=now - timedelta(hours=1))
    old = (now - timedelta(hours=2)).isoformat()
    batch = [
        event(occurred_at=old, cost_usd=None, prompt_tokens=1000, completion_tokens=500, cached_tokens=200),
        event(cost_usd=None, prompt_tokens=1000, completion_tokens=500),
        event(cost_usd="0.123456789"),
    ]
    post(client, key, batch)
    told = [(row["cost_usd"], row["cost_source"]) for row in spooled()]
    assert told == [
        ("1.900000000", "derived"),
        ("20.000000000", "derived"),
        ("0.123456789", "reported"),
    ]


def test_a_cost_that_nobody_knows_is_unknown_not_zero(client: Client, key: dict[str, str]) -> None:
    post(client, key, [event(cost_usd=None)])
    assert (spooled()[0]["cost_usd"], spooled()[0]["cost_source"]) == (None, None)


def test_a_new_profile_may_be_reported_at_once(client: Client, key: dict[str, str]) -> None:
    assert post(client, key, [event(profile="brand-new")]).status_code == 422
    factories.profile("brand-new")
    assert post(client, key, [event(profile="brand-new")]).status_code == 202


def test_the_event_schema_is_public(client: Client) -> None:
    answer = client.get("/api/v1/schemas/completion-event/v1")
    assert answer.status_code == 200
    assert answer.json()["title"] == "Completion event, v1"


def test_a_thousand_hostile_members_do_not_slow_the_answer_down(client: Client, key: dict[str, str]) -> None:
    hostile = {f"member-{number}": uuid.uuid4().hex for number in range(20_000)}
    began = time.process_time()
    answer = post(client, key, [hostile])
    assert answer.status_code == 422
    assert len(answer.json()["rejected"][0]["detail"]) <= 1000
    assert time.process_time() - began < 10  # a bound against blow-up, far from any ordinary time
