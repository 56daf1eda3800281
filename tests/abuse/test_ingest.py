"""Fuzzed ingest, through the front door: whatever comes, a clear answer; a bad event costs no sibling."""

import gzip
import json
import tracemalloc
from typing import Any

import orjson
import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry.events import CompletionEvent
from telemetry.ingest import MAX_EVENTS
from telemetry.models import SpoolBatch
from tests import factories
from tests.abuse.events import TOKENS, text_with

pytestmark = pytest.mark.django_db
URL = "/api/v1/telemetry/completions"
FIELDS = sorted(CompletionEvent.model_fields)
TYPES = (
    "application/json",
    "application/x-ndjson",
    "text/plain",
    "text/html",
    "multipart/form-data; boundary=x",
    "",
    "\xff",
)
ENCODINGS = ("identity", "gzip", "GZIP ", "br", "gzip, gzip", "\x01")
ANSWERS = {202, 400, 413, 415, 422}
FUZZED = settings(suppress_health_check=list(HealthCheck), max_examples=60)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner)
    ),
    max_leaves=30,
)


def post(
    key: dict[str, str], body: bytes, content_type: str = "application/json", encoding: str = "identity"
) -> Any:
    headers = {**key, "Content-Encoding": encoding}
    return Client().generic("POST", URL, body, content_type=content_type, headers=headers)


def assert_clear(answer: Any) -> None:
    assert answer.status_code in ANSWERS, answer.content
    told = orjson.loads(answer.content)
    if answer.status_code != 202:
        assert answer["Content-Type"] == "application/problem+json"
        assert told["code"]
        assert told["detail"]


def good() -> dict[str, Any]:
    return factories.event(occurred_at=timezone.now().isoformat())


@pytest.fixture
def key() -> dict[str, str]:
    factories.scope()
    return factories.key("ingest")


def test_any_bytes_of_any_kind_get_a_clear_answer(key: dict[str, str]) -> None:
    @given(
        body=st.binary(max_size=400) | st.binary(max_size=200).map(gzip.compress),
        content_type=st.sampled_from(TYPES),
        encoding=st.sampled_from(ENCODINGS),
    )
    @FUZZED
    def attempt(body: bytes, content_type: str, encoding: str) -> None:
        assert_clear(post(key, body, content_type, encoding))

    attempt()


def test_any_json_gets_a_clear_answer_and_an_answer_for_each_event(key: dict[str, str]) -> None:
    @given(items=st.lists(ANY_JSON, min_size=1, max_size=20))
    @FUZZED
    def attempt(items: list[Any]) -> None:
        answer = post(key, json.dumps(items).encode())
        assert_clear(answer)
        if answer.status_code == 422:
            assert len(answer.json()["rejected"]) == len(items)

    attempt()


@pytest.mark.parametrize("lines", [False, True], ids=["an array", "lines"])
def test_whatever_stands_for_a_value_costs_its_own_event_only(key: dict[str, str], lines: bool) -> None:
    @given(
        bad=st.lists(
            st.tuples(st.sampled_from(FIELDS) | st.just("made_up"), st.sampled_from(TOKENS)), max_size=6
        ),
        mixed=st.randoms(use_true_random=False),
    )
    @FUZZED
    def attempt(bad: list[tuple[str, str]], mixed: Any) -> None:
        texts = [text_with(good(), field, token) for field, token in bad] + [
            json.dumps(good()) for _ in range(3)
        ]
        order = list(range(len(texts)))
        mixed.shuffle(order)
        body = "\n".join(texts[n] for n in order) if lines else f"[{','.join(texts[n] for n in order)}]"
        answer = post(key, body.encode(), "application/x-ndjson" if lines else "application/json")
        assert answer.status_code == 202, answer.content
        told = answer.json()
        assert told["accepted"] + len(told["rejected"]) == len(texts)
        assert all(order[one["index"]] < len(bad) for one in told["rejected"]), told

    attempt()


def test_a_bomb_of_two_gigabytes_is_refused_in_a_few_megabytes(key: dict[str, str]) -> None:
    # Members of a gzip file follow each other: 190 of 10 MB each, in 2 MB.
    bomb = gzip.compress(b" " * 10_000_000) * 190
    assert len(bomb) < 2_000_000
    tracemalloc.start()
    try:
        answer = post(key, bomb, encoding="gzip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert peak < 30_000_000


def test_the_largest_batch_of_the_worst_events_is_refused_one_by_one(key: dict[str, str]) -> None:
    texts = [text_with(good(), FIELDS[n % len(FIELDS)], "9" * 900) for n in range(MAX_EVENTS - 1)]
    answer = post(key, f"[{','.join([*texts, json.dumps(good())])}]".encode())
    assert answer.status_code == 202, answer.content[:300]
    assert answer.json()["accepted"] == 1
    assert SpoolBatch.objects.get().events == 1
