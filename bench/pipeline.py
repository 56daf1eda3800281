"""Ingest into the spool, and the drain beside a raw insert of the same rows."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.table import Line, timed


def _batches(count: int, size: int = 1000) -> Iterator[list[dict[str, Any]]]:
    from demo import timeline

    now = datetime.now(UTC)
    for number in range(count):
        # Another day of the timeline would be too old, so ids are made new instead.
        events = list(islice(timeline.events(now - timedelta(hours=20 - number % 19), now), size))
        yield [{**event, "event_id": f"{event['event_id'][:-6]}{number:06x}"} for event in events]


def ingest(batches: int, rounds: int) -> list[Line]:
    """1,000-event batches through the endpoint: authentication, parsing, validation, commit."""
    from django.test import Client

    from catalog.models import ServiceKey
    from demo.catalogue import load_catalogue

    load_catalogue()
    _, key = ServiceKey.objects.create_key(name="bench", verbs=["ingest"], all_tenants=True)
    client = Client(headers={"Authorization": f"Api-Key {key}"})
    bodies = [orjson.dumps(batch) for batch in _batches(batches)]

    def post() -> None:
        for body in bodies:
            answer = client.post("/api/v1/telemetry/completions", body, content_type="application/json")
            assert answer.status_code == 202, answer.content

    post()
    rates = tuple(batches * 1000 / seconds for seconds in timed(post, rounds))
    return [Line("ingest, 1,000-event batches into the spool, one thread", "events/s", rates, 5000, True)]


def drain(name: str, rows: int, rounds: int) -> list[Line]:
    """The whole drain (read the spool, insert, mark, delete) over a raw insert of the same rows."""
    from django.conf import settings

    from demo.catalogue import load_catalogue
    from telemetry import spool
    from telemetry.clickhouse import get_clickhouse
    from telemetry.events import COLUMNS
    from telemetry.ingest import accept
    from telemetry.models import SpoolBatch

    load_catalogue()
    block = settings.DRAIN_BLOCK_ROWS
    drained, ratios = [], []
    for _ in range(rounds):
        SpoolBatch.objects.all().delete()
        now = datetime.now(UTC)
        for batch in _batches(rows // 1000):
            accept(batch, source="bench", now=now, tenants=None)
        stored = [row for found in SpoolBatch.objects.all() for row in orjson.loads(bytes(found.payload))]
        assert len(stored) == rows, len(stored)
        raw = _raw_insert(
            settings.CLICKHOUSE_URL, (*COLUMNS, "received_us"), [[*row, 1] for row in stored], block
        )
        began = time.perf_counter()
        while spool.drain(get_clickhouse(), now, block):
            pass
        seconds = time.perf_counter() - began
        drained.append(len(stored) / seconds)
        ratios.append(seconds / raw)
    return [
        Line(f"drain, {name}", "rows/s", tuple(drained)),
        Line(f"drain over a raw driver insert of the same rows, {name}", "x", tuple(ratios), 2),
    ]


def _raw_insert(url: str, columns: tuple[str, ...], rows: list[list[Any]], block: int) -> float:
    """Seconds that the driver alone takes, in the same blocks, values converted beforehand."""
    blocks = [rows[first : first + block] for first in range(0, len(rows), block)]
    names = ", ".join(columns)
    if url.startswith("chdb"):
        from chdb.session import Session

        session = Session(urlsplit(url).path)
        statement = f"INSERT INTO bench.completions ({names}) FORMAT JSONCompactEachRow\n".encode()
        began = time.perf_counter()
        for part in blocks:
            # Its driver takes text, so turning rows into text is part of its insert, as bytes are of a server's.
            session.query(statement + b"\n".join(map(orjson.dumps, part)))
        return time.perf_counter() - began
    from clickhouse_driver import Client

    address = urlsplit(url)
    client = Client(address.hostname, port=address.port, database="bench", compression="lz4")
    converted = [[_for_driver(columns, row) for row in part] for part in blocks]
    began = time.perf_counter()
    for part in converted:
        client.execute(f"INSERT INTO completions ({names}) VALUES", part)
    return time.perf_counter() - began


def _for_driver(columns: tuple[str, ...], row: list[Any]) -> list[Any]:
    from decimal import Decimal
    from uuid import UUID

    convert = {"event_id": UUID, "decision_id": UUID, "cost_usd": Decimal, "accuracy": Decimal}
    return [
        convert[name](value) if name in convert and value is not None else value
        for name, value in zip(columns, row, strict=True)
    ]
