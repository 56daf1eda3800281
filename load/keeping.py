"""Whether all that was acknowledged is kept, once: read from PostgreSQL and ClickHouse, past the product's code."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from clickhouse_driver import Client

from demo import timeline
from demo.outcomes import PERSONA_OF
from load.figures import Count, count_ids, count_of
from load.product import Product
from load.running import Recorded
from tests.flows.apart import totals

#: Loss stays; lag passes. What is not there after this long is lost.
PATIENCE_SECONDS = 180.0
TENANTS = tuple(one.tenant for one in timeline.TRAFFIC)
PERSONAS = tuple(sorted(set(PERSONA_OF.values())))
#: Conversations of the locustfiles; the history's, and those of others, have other names.
_OURS = "conversation_id LIKE 'load-%'"


def kept(product: Product, recorded: Recorded) -> list[Count]:
    """Decisions that were answered, in the database and in ClickHouse; completions that were accepted, in ClickHouse;
    and how many the API tells in all. Returns when all is exact, or after PATIENCE_SECONDS."""
    with _clickhouse(product) as client:

        def in_database() -> list[str]:
            with psycopg.connect(product.database_url, connect_timeout=5) as connection:
                found = connection.execute(
                    f"SELECT decision_id::text FROM routing_selection WHERE {_OURS}"  # a constant
                )
                return [row[0] for row in found]

        def of(column: str, table: str) -> Callable[[], list[str]]:
            # FINAL: copies of one row that a retry has sent are one row in effect.
            statement = f"SELECT toString({column}) FROM {table} FINAL WHERE {_OURS}"  # constants
            return lambda: [row[0] for row in client.execute(statement)]

        checks: Sequence[tuple[str, Sequence[str], Callable[[], list[str]]]] = (
            ("decisions in PostgreSQL", recorded.decisions, in_database),
            ("decisions in ClickHouse", recorded.decisions, of("decision_id", "selections")),
            ("completions in ClickHouse", recorded.events, of("event_id", "completions")),
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        counts = [_patiently(what, expected, found, deadline) for what, expected, found in checks]
    return [*counts, rolled_up(product)]


def _patiently(what: str, expected: Sequence[str], found: Callable[[], list[str]], deadline: float) -> Count:
    while True:
        count = count_ids(what, expected, found())
        # More than there should be does not get less.
        if count.is_exact or count.extra or count.twice or time.monotonic() > deadline:
            return count
        time.sleep(1)


def counted(product: Product, statement: str, least: int) -> int:
    """The number that ClickHouse gives, as soon as it is ``least``; the last one after PATIENCE_SECONDS."""
    with _clickhouse(product) as client:
        return _reached(lambda: int(client.execute(statement)[0][0]), least)


def rolled_up(product: Product) -> Count:
    """All completions that the product ever accepted, as its API tells them of the last 24 hours."""
    with product.client() as client:
        found = _reached(lambda: sum(totals(client, TENANTS, PERSONAS).values()), product.reported)
    return count_of("completions in roll-ups (API, 24 h)", product.reported, found)


def _reached(read: Callable[[], int], least: int) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := read()) < least and time.monotonic() < deadline:
        time.sleep(2)
    return found


@contextmanager
def _clickhouse(product: Product) -> Iterator[Client]:
    client = Client(
        "127.0.0.1",
        product.clickhouse_port,
        database="selection",
        connect_timeout=5,
        send_receive_timeout=60,
    )
    try:
        yield client
    finally:
        client.disconnect()
