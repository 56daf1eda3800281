"""The spool: accepted events wait in the Django database until ClickHouse has them.

A batch is deleted only after ClickHouse took its rows, in the transaction that marks their buckets
dirty. Killed in between, it is sent again; roll-ups count distinct events, so nothing counts twice.
"""

import gc
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
from django.db import transaction
from django.db.models import Count, Max, Min, Q, Sum

from telemetry.clickhouse import ClickHouse, ClickHouseError, ClickHouseQueryError
from telemetry.events import COLUMNS, Row
from telemetry.models import DirtyBucket, PipelineStage, SpoolBatch

BUCKET_SECONDS = 300
_OCCURRED_AT = COLUMNS.index("occurred_at")
_INSERT_COLUMNS = (*COLUMNS, "received_us")
#: ClickHouse refuses a block that touches more than 100 partitions; a partition is a day.
_MAX_DAYS_PER_BLOCK = 90
_DAY_SECONDS = 86_400
#: SQLite takes 999 parameters in one statement.
_MAX_BATCHES_PER_BLOCK = 900


def store(rows: Sequence[Row], source: str, now: datetime) -> None:
    """Commit accepted rows. When this returns, they are safe."""
    SpoolBatch.objects.create(received_at=now, source=source, events=len(rows), payload=orjson.dumps(rows))


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for ClickHouse; ``oldest`` and ``newest`` are when batches came in."""

    batches: int
    events: int
    oldest: datetime | None
    newest: datetime | None
    retrying: int
    #: What ClickHouse said of one of those.
    refusal: str


def backlog() -> Backlog:
    """One query."""
    told = SpoolBatch.objects.aggregate(
        batches=Count("pk"),
        events=Sum("events"),
        oldest=Min("received_at"),
        newest=Max("received_at"),
        retrying=Count("pk", filter=Q(attempts__gt=0)),
        refusal=Max("error"),
    )
    return Backlog(
        batches=told["batches"],
        events=told["events"] or 0,
        oldest=told["oldest"],
        newest=told["newest"],
        retrying=told["retrying"],
        refusal=told["refusal"] or "",
    )


def drain(clickhouse: ClickHouse, now: datetime, block_rows: int, max_blocks: int = 50) -> int:
    """Send waiting batches in order, in blocks of about ``block_rows``; returns the events sent.

    Raises ClickHouseUnavailable when it cannot be reached. A block that the engine refuses is sent batch
    by batch, so that one bad batch holds up no other; it stays in the spool and is tried again later.
    """
    sent = 0
    for _ in range(max_blocks):
        batches = _next_block(now, block_rows)
        if not batches:
            break
        try:
            sent += _send(clickhouse, batches, now)
        except ClickHouseQueryError as error:
            if len(batches) == 1:
                _postpone(batches[0], now, error)
            else:
                sent += _send_singly(clickhouse, batches, now)
    return sent


def _next_block(now: datetime, block_rows: int) -> list[SpoolBatch]:
    due = Q(next_attempt_at=None) | Q(next_attempt_at__lte=now)
    block: list[SpoolBatch] = []
    rows = 0
    # Ids and sizes first: payloads are read only for the batches of this block.
    for pk, events in (
        SpoolBatch.objects.filter(due).order_by("id").values_list("id", "events")[:_MAX_BATCHES_PER_BLOCK]
    ):
        if block and rows + events > block_rows:
            break
        block.append(SpoolBatch(pk=pk))
        rows += events
    return list(SpoolBatch.objects.filter(pk__in=[batch.pk for batch in block]).order_by("id"))


def _send_singly(clickhouse: ClickHouse, batches: Iterable[SpoolBatch], now: datetime) -> int:
    sent = 0
    for batch in batches:
        try:
            sent += _send(clickhouse, [batch], now)
        except ClickHouseQueryError as error:
            _postpone(batch, now, error)
    return sent


def _postpone(batch: SpoolBatch, now: datetime, error: ClickHouseError) -> None:
    batch.attempts += 1
    # 2 s, 4 s, ... up to ten minutes.
    batch.next_attempt_at = now + timedelta(seconds=min(2**batch.attempts, 600))
    batch.error = str(error)[:500]
    batch.save(update_fields=["attempts", "next_attempt_at", "error"])


@contextmanager
def _no_collections() -> Iterator[None]:
    """A block is some hundred thousand objects without cycles: looking for some took a seventh of a drain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _send(clickhouse: ClickHouse, batches: Sequence[SpoolBatch], now: datetime) -> int:
    rows: list[Row] = []
    with _no_collections():
        for batch in batches:
            received_us = int(batch.received_at.timestamp() * 1_000_000)
            for row in orjson.loads(bytes(batch.payload)):
                row.append(received_us)
                rows.append(row)
        buckets = {row[_OCCURRED_AT] // BUCKET_SECONDS * BUCKET_SECONDS for row in rows}
        for block in _by_days(rows, {bucket // _DAY_SECONDS for bucket in buckets}):
            clickhouse.insert("completions", _INSERT_COLUMNS, block)
    with transaction.atomic():
        mark_dirty((datetime.fromtimestamp(second, UTC) for second in buckets), now)
        SpoolBatch.objects.filter(pk__in=[batch.pk for batch in batches]).delete()
    return len(rows)


def _by_days(rows: list[Row], days: set[int]) -> list[list[Row]]:
    if len(days) <= _MAX_DAYS_PER_BLOCK:
        return [rows]
    part = {day: index // _MAX_DAYS_PER_BLOCK for index, day in enumerate(sorted(days))}
    blocks: dict[int, list[Row]] = {}
    for row in rows:
        blocks.setdefault(part[row[_OCCURRED_AT] // _DAY_SECONDS], []).append(row)
    return list(blocks.values())


def mark_dirty(buckets: Iterable[datetime], now: datetime) -> None:
    """Ask for these 5-minute buckets (UTC starts) to be rolled up again."""
    token = uuid.uuid4().hex
    DirtyBucket.objects.bulk_create(
        [DirtyBucket(start=start, token=token, marked_at=now) for start in sorted(buckets)],
        update_conflicts=True,
        update_fields=["token"],
        unique_fields=["start"],
        batch_size=500,
    )


def is_failing(stage: str) -> bool:
    """Whether the last run of a stage failed."""
    known = PipelineStage.objects.filter(name=stage).first()
    return known is not None and known.is_failing


def note_success(stage: str, now: datetime) -> None:
    """Record that a stage of the pipeline ran well."""
    PipelineStage.objects.update_or_create(name=stage, defaults={"succeeded_at": now})


def note_failure(stage: str, now: datetime, error: ClickHouseError) -> None:
    """Record that a stage failed, and how, for freshness and the on-call engineer."""
    PipelineStage.objects.update_or_create(
        name=stage,
        defaults={"failed_at": now, "error_code": type(error).__name__, "error": str(error)[:500]},
    )
