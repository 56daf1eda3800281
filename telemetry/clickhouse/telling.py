"""What the door tells of its calls: how long they took and how they failed; both adapters alike."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from observability.meters import meters
from observability.traces import span
from telemetry.clickhouse.errors import ClickHouseError, ClickHouseTimeout, ClickHouseUnavailable


@contextmanager
def told(operation: str) -> Iterator[None]:
    """Count, time and trace one call. ``operation`` is a method of the door."""
    began = time.perf_counter()
    try:
        with span(f"clickhouse {operation}", **{"db.system": "clickhouse", "db.operation": operation}):
            yield
    except ClickHouseError as error:
        meters().clickhouse_errors(operation, _kind(error)).inc()
        raise
    finally:
        meters().clickhouse_seconds(operation).observe(time.perf_counter() - began)


def _kind(error: ClickHouseError) -> str:
    if isinstance(error, ClickHouseTimeout):
        return "timeout"
    return "unavailable" if isinstance(error, ClickHouseUnavailable) else "query"
