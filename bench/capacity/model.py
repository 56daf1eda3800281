"""Capacity: from what one decision or event costs to cores, bytes and the first part that is full. Pure arithmetic.

A part is full at 70 % of what it may use. What scales by adding processes or shards has no limit here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

SELECTIONS_PER_SECOND = (100, 1_000, 10_000, 100_000, 1_000_000)
EVENTS_PER_DAY = (10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
SCOPES = (1_000, 10_000, 100_000, 1_000_000)

DAY_SECONDS = 86_400
#: Beyond this share of what there is, queues grow.
FULL = 0.7
#: Of the largest server that one PostgreSQL or ClickHouse node is given; a choice, no measurement.
SERVER_CORES = 32
#: Of its disk, in TB; and so many days of decisions are kept there (SELECTION_KEEP_DAYS, at its least).
SERVER_DISK_TB = 10
KEPT_DAYS = 3
#: Parts of a snapshot shall be put together within this.
ASSEMBLY_SECONDS = 30
#: A snapshot is asked for so often.
SNAPSHOT_SECONDS = 60
#: What is recomputed of the running five minutes is on average half of them.
_BUCKET_SECONDS = 300

#: Every key of costs.json, and what it is.
COSTS: Mapping[str, str] = {
    "web_durable_us": "us CPU of the web process per selection that is committed before it is answered",
    "web_write_behind_us": "the same with SELECTION_STORE=write-behind",
    "postgres_us_per_selection": "us CPU of PostgreSQL per selection committed",
    "postgres_us_per_published": "us CPU of PostgreSQL until a decision is marked as published",
    "publish_us_per_decision": "us CPU of the Celery task that publishes, one at a time",
    "clickhouse_us_per_decision": "us CPU of ClickHouse to take a decision",
    "local_evaluation_us": "us CPU of a worker per decision it makes itself, by the policy bundle",
    "report_us_per_decision": "us CPU of the web process per decision reported in batches",
    "ingest_us_per_event": "us CPU of the web process per event, in batches of 1,000",
    "postgres_us_per_event": "us CPU of PostgreSQL per event: into the spool and out of it",
    "drain_us_per_event": "us CPU of the Celery task that drains the spool, one at a time",
    "clickhouse_us_per_event": "us CPU of ClickHouse to take an event",
    "rollup_us_per_event": "us CPU of ClickHouse to recompute a bucket once, per event in it",
    "scoring_ms_per_scope": "ms CPU per scope, 10 profiles: totals to scorecards and their JSON",
    "assemble_us_per_scope": "us CPU per scope to put parts together and store the snapshot, one process",
    "snapshot_bytes_per_scope": "bytes in PostgreSQL per scope of a snapshot, 10 profiles",
    "postgres_bytes_per_decision": "bytes in PostgreSQL, indexes included",
    "clickhouse_bytes_per_decision": "bytes on ClickHouse's disk",
    "clickhouse_bytes_per_event": "bytes on ClickHouse's disk, raw",
}


@dataclass(frozen=True)
class Need:
    """What a part needs, in CPU cores (a disk: in TB); ``limit``: as much as it can use (None: it grows by processes
    or shards)."""

    part: str
    amount: float
    limit: float | None = None

    @property
    def use(self) -> float:
        """Of what it can use; 1 is all of it."""
        return self.amount / self.limit if self.limit else 0.0


@dataclass(frozen=True)
class Step:
    """One row: a rate, what it needs, and bytes a day by where they are kept."""

    rate: float
    needs: tuple[Need, ...]
    bytes_per_day: Mapping[str, float]

    @property
    def bottleneck(self) -> Need | None:
        """The first part to be full; None: none is."""
        fullest = max(self.needs, key=lambda need: need.use)
        return fullest if fullest.use > FULL else None

    def deployments(self, parts: Sequence[str]) -> int:
        """Into how many deployments, each with its own tenants, the load of these parts must be divided."""
        return max([1, *(ceil(need.use / FULL) for need in self.needs if need.part in parts)])


#: The cost of a selection to the web, by how it is served.
STORES = {
    "durable": "web_durable_us",
    "write_behind": "web_write_behind_us",
    "local": "report_us_per_decision",
}


def selections(costs: Mapping[str, float], rate: float, store: str = "durable") -> Step:
    """``rate`` per second. ``store``: durable, write_behind, or local (workers decide, and report in batches)."""
    web = costs[STORES[store]]
    postgres = costs["postgres_us_per_selection"] + costs["postgres_us_per_published"]
    stored = rate * DAY_SECONDS * costs["postgres_bytes_per_decision"]
    return Step(
        rate,
        (
            Need("web", _cores(rate, web)),
            Need("PostgreSQL", _cores(rate, postgres), SERVER_CORES),
            Need("PostgreSQL's disk", stored * KEPT_DAYS / 1e12, SERVER_DISK_TB),
            Need("publisher", _cores(rate, costs["publish_us_per_decision"]), 1),
            Need("ClickHouse", _cores(rate, costs["clickhouse_us_per_decision"])),
            Need("workers", _cores(rate, costs["local_evaluation_us"]) if store == "local" else 0.0),
        ),
        {
            "PostgreSQL": stored,
            "ClickHouse": rate * DAY_SECONDS * costs["clickhouse_bytes_per_decision"],
        },
    )


def events(costs: Mapping[str, float], per_day: float, shards: int = 1, every_seconds: float = 5) -> Step:
    """``per_day`` spread evenly. ``shards``: ClickHouse servers of ``SERVER_CORES``; ``every_seconds``: how often the
    running five minutes are recomputed."""
    rate = per_day / DAY_SECONDS
    roll_up = costs["rollup_us_per_event"] * _BUCKET_SECONDS / 2 / every_seconds
    return Step(
        rate,
        (
            Need("web", _cores(rate, costs["ingest_us_per_event"])),
            Need("PostgreSQL", _cores(rate, costs["postgres_us_per_event"]), SERVER_CORES),
            Need("drain", _cores(rate, costs["drain_us_per_event"]), 1),
            Need(
                "ClickHouse",
                _cores(rate, costs["clickhouse_us_per_event"] + roll_up),
                SERVER_CORES * shards,
            ),
        ),
        {"ClickHouse": per_day * costs["clickhouse_bytes_per_event"]},
    )


@dataclass(frozen=True)
class Scoring:
    """``partitions`` that are done within half of the time between two snapshots; ``assembly_seconds`` come after. Both
    in one deployment; with so many ``deployments`` the latter is short enough."""

    scopes: int
    cores: float
    partitions: int
    assembly_seconds: float
    snapshot_bytes: float
    deployments: int


def scoring(costs: Mapping[str, float], scopes: int) -> Scoring:
    """Once a minute."""
    work = scopes * costs["scoring_ms_per_scope"] / 1e3
    assembly = scopes * costs["assemble_us_per_scope"] / 1e6
    return Scoring(
        scopes,
        work / SNAPSHOT_SECONDS,
        max(1, ceil(work / (SNAPSHOT_SECONDS / 2))),
        assembly,
        scopes * costs["snapshot_bytes_per_scope"],
        max(1, ceil(assembly / ASSEMBLY_SECONDS)),
    )


def _cores(rate: float, microseconds: float) -> float:
    return rate * microseconds / 1e6
