"""From bytes to the spool: split a batch, judge each event alone, commit the good, quarantine the bad."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db import transaction
from django.db.models import F

from catalog.directory import directory
from observability.meters import meters
from telemetry import spool
from telemetry.events import LATEST, Rejected, Rejection, Row, check, parse, to_row
from telemetry.models import QuarantineCount, QuarantinedEvent

MAX_EVENTS = 1_000
_RAW_KEPT = 4_000
_DIGITS = 400
#: One batch leaves at most this many of its bad events in quarantine; the counters count them all.
_QUARANTINED_PER_BATCH = 200


class BadBatch(Exception):
    """The body as a whole cannot be read; nothing of it was taken."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that is not JSON, in the place of the event that it would have been."""

    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: counts, and each rejection with index and reason."""

    accepted: int
    rejected: tuple[Rejection, ...]


def split(body: bytes) -> list[Any]:
    """The events of a JSON array or of NDJSON, unvalidated; a broken NDJSON line becomes Broken.

    Raises BadBatch when there is none, or too many, or an array is no JSON at all.
    """
    text = body.strip()
    if not text:
        raise BadBatch(400, "empty_batch", "The body holds no events.")
    items = _array(text) if text.startswith(b"[") else _lines(text)
    if not items:
        raise BadBatch(400, "empty_batch", "The body holds no events.")
    if len(items) > MAX_EVENTS:
        raise BadBatch(413, "too_many_events", f"{len(items)} events; a batch holds at most {MAX_EVENTS}.")
    return items


def _array(text: bytes) -> list[Any]:
    try:
        items: Any = orjson.loads(text)
    except orjson.JSONDecodeError as strict:
        items = _lenient(text, strict)
    return list(items)


def _lenient(text: bytes, strict: Exception) -> Any:
    # NaN, Infinity or a bad byte in one event must not cost its siblings: Python's parser lets them
    # through, and the event that holds them is then refused alone.
    try:
        return json.loads(text.decode("utf-8", "surrogateescape"), parse_int=_whole)
    except (ValueError, RecursionError):
        raise BadBatch(400, "invalid_json", f"The array is not JSON: {strict}") from None


def _whole(digits: str) -> float:
    # Python reads no number of more than 4,300 digits; as infinity it is its own event's trouble only.
    return int(digits) if len(digits) <= _DIGITS else math.inf


def _lines(text: bytes) -> list[Any]:
    lines = [line for line in text.split(b"\n") if line.strip()]
    if len(lines) > MAX_EVENTS:
        raise BadBatch(413, "too_many_events", f"{len(lines)} events; a batch holds at most {MAX_EVENTS}.")
    return [_line(line) for line in lines]


def _line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Broken(str(error), line)


def accept(
    items: Sequence[Any],
    *,
    source: str,
    now: datetime,
    tenants: frozenset[str] | None,
    oldest: datetime | None = None,
) -> Outcome:
    """Judge every event alone, then commit the good rows to the spool and the bad ones to quarantine.

    ``tenants`` are those the sender may report for (None: all); events before ``oldest`` (default 48 h
    ago) are too late. When this returns, accepted events are safe.
    """
    names = directory()
    limit = now - LATEST if oldest is None else oldest
    rows: list[Row] = []
    rejected: list[Rejection] = []
    for index, item in enumerate(items):
        try:
            if isinstance(item, Broken):
                raise Rejected("invalid_json", f"The line is not JSON: {item.reason}")
            event = parse(item)
            check(event, names, now, tenants, limit)
            rows.append(to_row(event, names))
        except Rejected as why:
            rejected.append(Rejection(index, why.code, why.detail, _tenant(item, tenants)))
    with transaction.atomic():
        if rows:
            spool.store(rows, source, now)
        if rejected:
            quarantine(items, rejected, source, now)
    meters().events("accepted").inc(len(rows))
    meters().events("rejected").inc(len(rejected))
    return Outcome(len(rows), tuple(rejected))


def _tenant(item: Any, tenants: frozenset[str] | None) -> str | None:
    """The tenant a bad event claims, if the sender may speak for it at all."""
    claimed = item.get("tenant") if isinstance(item, dict) else None
    if not isinstance(claimed, str) or len(claimed) > 63:
        return None
    return claimed if tenants is None or claimed in tenants else None


def quarantine(items: Sequence[Any], rejected: Sequence[Rejection], source: str, now: datetime) -> None:
    """Keep refused events for people to look at, and count them by day and reason."""
    QuarantinedEvent.objects.bulk_create(
        QuarantinedEvent(
            received_at=now,
            source=source,
            tenant=_printable(rejection.tenant or ""),
            code=rejection.code,
            detail=_printable(rejection.detail)[:1000],
            raw=_raw(items[rejection.index]),
        )
        for rejection in rejected[:_QUARANTINED_PER_BATCH]
    )
    # In one order for all: two requests that count the same reasons must not wait for each other's rows.
    for code, count in sorted(Counter(rejection.code for rejection in rejected).items()):
        counter, _ = QuarantineCount.objects.get_or_create(day=now.date(), code=code)
        QuarantineCount.objects.filter(pk=counter.pk).update(count=F("count") + count)


def _raw(item: Any) -> str:
    text = item.raw.decode("utf-8", "replace") if isinstance(item, Broken) else _dump(item)
    return _printable(text[:_RAW_KEPT])


def _dump(item: Any) -> str:
    try:
        return json.dumps(item)
    except RecursionError:
        return "(nested too deeply to show)"


def _printable(text: str) -> str:
    # PostgreSQL takes neither NUL nor lone surrogates in text.
    return text.encode("utf-8", "replace").decode().replace("\x00", "\\u0000")


def trim_quarantine(keep: int) -> int:
    """Delete all but the newest ``keep`` quarantined events; returns how many went."""
    edge = QuarantinedEvent.objects.order_by("-id").values_list("id", flat=True)[keep : keep + 1].first()
    if edge is None:
        return 0
    return QuarantinedEvent.objects.filter(id__lte=edge).delete()[0]


def describe(rejected: Iterable[Rejection]) -> list[dict[str, Any]]:
    """Rejections as the API and the command show them."""
    return [{"index": r.index, "code": r.code, "detail": _printable(r.detail)} for r in rejected]
