"""The frozen schema and the validator agree, and neither changes."""

import hashlib
import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.events import SCHEMA_FILE, CompletionEvent, Rejected, parse
from tests.factories import event

SCHEMA = json.loads(SCHEMA_FILE.read_text())


def _pattern(validator: Any, pattern: str, instance: object, schema: Any) -> Any:
    # JSON Schema's patterns are ECMA-262's, where $ is the very end; Python's also matches before a line break.
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield jsonschema.ValidationError("does not match")


VALIDATOR = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})(
    SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
#: A changed meaning is a new file, v2, beside this one.
FROZEN = "4d3d771756b510067b92e02b61b2bc3e8cea06fad5f394bd1709e93130ff8022"


def accepted(raw: object) -> bool:
    try:
        parse(raw)
    except Rejected:
        return False
    return True


def test_the_published_schema_of_v1_never_changes() -> None:
    assert hashlib.sha256(SCHEMA_FILE.read_bytes()).hexdigest() == FROZEN


def test_schema_and_validator_name_the_same_fields() -> None:
    fields = CompletionEvent.model_fields
    assert set(SCHEMA["properties"]) == set(fields)
    assert set(SCHEMA["required"]) == {name for name, field in fields.items() if field.is_required()}


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**8),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["aurora", "a" * 63, "a" * 64, "A", "-a", "0.25", "1e3", "", "0" * 200, "x\ny"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
# Dates, ids and decimal strings are written many ways; the validator is free to take more of them than the
# schema's formats, so they are held equal by the examples below instead.
COMPARED = sorted(set(SCHEMA["properties"]) - {"occurred_at", "event_id", "decision_id", "cost_usd"})


@given(st.dictionaries(st.sampled_from([*COMPARED, "unknown_member"]), JSON_VALUES, max_size=3))
def test_schema_and_validator_agree_on_any_value_of_any_field(changes: dict[str, Any]) -> None:
    raw = event(**changes)
    assert accepted(raw) == VALIDATOR.is_valid(raw)


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_each_required_field_is_required_by_both(name: str) -> None:
    raw = event()
    del raw[name]
    assert not accepted(raw)
    assert not VALIDATOR.is_valid(raw)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_ms", -1),
        ("latency_ms", 3_600_001),
        ("latency_ms", 1.5),
        ("latency_ms", "12"),
        ("latency_ms", True),
        ("latency_ms", float("nan")),
        ("prompt_tokens", 10**30),
        ("success", 1),
        ("success", "true"),
        ("cost_usd", -0.01),
        ("cost_usd", float("inf")),
        ("cost_usd", "NaN"),
        ("cost_usd", True),
        ("cost_usd", "1e999"),
        ("accuracy", 1.01),
        ("accuracy", float("nan")),
        ("occurred_at", "2026-11-20T12:00:00"),
        ("occurred_at", "2026-11-20"),
        ("occurred_at", 1_763_640_000),
        ("occurred_at", "yesterday"),
        ("event_id", "1"),
        ("event_id", 7),
        ("tenant", "Aurora"),
        ("tenant", "aurora\n"),
        ("tenant", "a\u0000b"),
        ("tenant", "a\ud800b"),
        ("conversation_id", ""),
        ("conversation_id", "x" * 201),
        ("conversation_id", "a\u0000b"),
        ("schema_version", 2),
        ("served_model", {"name": "x"}),
    ],
)
def test_a_field_out_of_bounds_is_refused_with_its_name(field: str, value: object) -> None:
    with pytest.raises(Rejected) as refusal:
        parse(event(**{field: value}))
    assert refusal.value.code == "invalid_field"
    assert refusal.value.detail.startswith(field)


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(Rejected, match="temperature"):
        parse(event(temperature=1))


@pytest.mark.parametrize("cost", [0, 0.25, 1, "0.000000001", "12.5", None])
def test_money_is_taken_as_number_or_decimal_string(cost: object) -> None:
    assert accepted(event(cost_usd=cost))
    assert VALIDATOR.is_valid(event(cost_usd=cost))
