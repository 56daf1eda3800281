"""Events from a file, line by line, so that a file of any size is read in constant memory."""

import csv
import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from telemetry.ingest import Broken

#: Columns of a CSV that are not text; an empty cell is an absent field.
_CSV_TYPES = {
    "success": "boolean",
    "escalated": "boolean",
    "safety_violation": "boolean",
    "latency_ms": "number",
    "prompt_tokens": "number",
    "completion_tokens": "number",
    "cached_tokens": "number",
    "accuracy": "number",
    "schema_version": "number",
}
_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
#: Events without an event_id get one from the file's content and line: the same file, the same ids.
_NAMESPACE = uuid.UUID("5f1b4c5e-0f0c-5a0e-9d1c-0f6f4c1f9c11")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds events: its format (csv or ndjson), fingerprint and number of lines."""

    path: Path
    format: str
    sha256: str
    lines: int


def inspect(path: Path, file_format: str | None = None) -> Source:
    """Read the file once for its fingerprint. Raises ValueError for an unknown format, OSError."""
    chosen = file_format or {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}.get(path.suffix.lower())
    if chosen is None:
        raise ValueError(f"{path.name}: say --format csv or ndjson; its name does not tell.")
    digest = hashlib.sha256()
    lines = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            lines += chunk.count(b"\n")
    return Source(path, chosen, digest.hexdigest(), max(lines, 1))


def batches(source: Source, skip: int, size: int) -> Iterator[list[Any]]:
    """The events after the first ``skip``, unvalidated, in lists of ``size``."""
    events = _csv_events(source) if source.format == "csv" else _ndjson_events(source)
    numbered = islice(enumerate(events), skip, None)
    while batch := list(islice(numbered, size)):
        yield [_identified(event, source, number) for number, event in batch]


def _identified(event: Any, source: Source, number: int) -> Any:
    if isinstance(event, dict) and not event.get("event_id"):
        event["event_id"] = str(uuid.uuid5(_NAMESPACE, f"{source.sha256}:{number}"))
    return event


def _ndjson_events(source: Source) -> Iterator[Any]:
    with source.path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                yield Broken(str(error), line)


def _csv_events(source: Source) -> Iterator[Any]:
    with source.path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            yield _from_cells(row)


def _from_cells(row: dict[str | Any, str | Any]) -> Any:
    if None in row or None in row.values():
        return Broken("the row has more or fewer cells than the header", repr(row).encode())
    try:
        return {name: _cell(name, text) for name, text in row.items() if text != ""}
    except ValueError as error:
        return Broken(str(error), repr(row).encode())


def _cell(name: str, text: str) -> object:
    kind = _CSV_TYPES.get(name)
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{name}: {text[:40]!r} is not 1, 0, true, false, yes or no")
        return _BOOLEANS[text.lower()]
    if kind == "number":
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError(f"{name}: {text[:40]!r} is not a number") from None
    return text
