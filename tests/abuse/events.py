"""Hostile telemetry, for hypothesis and for the fuzzer."""

import json
from typing import Any

#: What may stand for a value in JSON text, though most of it is none, or means nothing here.
TOKENS = (
    "NaN",
    "-Infinity",
    "1e999",
    "-" + "9" * 400,
    "9" * 5000,
    "0." + "0" * 400 + "1",
    "1e-400",
    '"\\ud800"',
    '"\\u0000"',
    '"' + "x" * 5000 + '"',
    "[" * 50 + "]" * 50,
    '{"a": {"b": {"c": []}}}',
    "true",
    "null",
    "-0",
    "-1",
    "1.5",
    '"0001-01-01T00:00:00+14:00"',
    '"9999-12-31T23:59:59.999999-14:00"',
    '"2026-13-45T99:99:99Z"',
    '"1e1000000"',
    '"NaN"',
    '"-0.0000000001"',
    '"urn:uuid:00000000-0000-0000-0000-000000000000"',
    '"{00000000000000000000000000000000}"',
    "[]",
    "{}",
)


def text_with(event: dict[str, Any], field: str, token: str) -> str:
    """The event as JSON text, with the token in place of a field's value."""
    others = {name: value for name, value in event.items() if name != field}
    return json.dumps(others)[:-1] + (", " if others else "") + f"{json.dumps(field)}: {token}}}"
