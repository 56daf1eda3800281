"""Applies migrations, and remembers in ClickHouse itself which ones are applied.

Statements of a migration are safe to run again, and a migration is recorded after its last one: what
failed midway is simply run once more.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from telemetry.clickhouse import UNKNOWN_DATABASE, UNKNOWN_TABLE, ClickHouse, ClickHouseQueryError
from telemetry.clickhouse_migrations.dialect import Dialect

FOLDER = Path(__file__).parent
FROZEN = FOLDER / "FROZEN"
#: Seconds for one statement: DDL on a cluster waits for every node.
STATEMENT_TIMEOUT = 60.0
_MODULE = re.compile(r"m(\d{4})_[a-z0-9_]+")


class Direction(StrEnum):
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    forward: Callable[[Dialect], list[str]]
    backward: Callable[[Dialect], list[str]]


@dataclass(frozen=True, slots=True)
class Status:
    """A migration, and when it was applied (UTC); None if it is not."""

    migration: Migration
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    migration: Migration
    direction: Direction
    statements: Sequence[str]


def migrations() -> list[Migration]:
    """Every migration in this folder, by number; ValueError if two share one."""
    found: dict[int, Migration] = {}
    for path in sorted(FOLDER.glob("m*.py")):
        if not (match := _MODULE.fullmatch(path.stem)):
            raise ValueError(f"{path.name}: a migration is called m0001_subject.py")
        number = int(match[1])
        if number in found:
            raise ValueError(f"{path.name}: number {number} is taken by {found[number].name}")
        module = import_module(f"{__package__}.{path.stem}")
        found[number] = Migration(number, path.stem, module.forward, module.backward)
    return list(found.values())


def status(clickhouse: ClickHouse) -> list[Status]:
    """Every migration and whether it is applied. Writes nothing. Raises ClickHouseError."""
    applied = _applied(clickhouse)
    return [Status(migration, applied.get(migration.number)) for migration in migrations()]


def plan(clickhouse: ClickHouse, to: int | None = None) -> list[Step]:
    """What is to be done so that exactly the migrations up to number ``to`` are applied (None: all, 0: none).

    Writes nothing. ValueError for a number that no migration has; raises ClickHouseError.
    """
    states = status(clickhouse)
    last = states[-1].migration.number if to is None else to
    if last not in {0, *(state.migration.number for state in states)}:
        raise ValueError(f"there is no migration number {last}")
    dialect = Dialect(clickhouse.version(), clickhouse.database, clickhouse.cluster)
    back = [
        Step(one.migration, Direction.BACKWARD, one.migration.backward(dialect))
        for one in reversed(states)
        if one.applied_at is not None and one.migration.number > last
    ]
    ahead = [
        Step(one.migration, Direction.FORWARD, one.migration.forward(dialect))
        for one in states
        if one.applied_at is None and one.migration.number <= last
    ]
    return [*back, *ahead]


def migrate(clickhouse: ClickHouse, to: int | None = None, *, dry_run: bool = False) -> list[Step]:
    """Do what ``plan`` says, unless ``dry_run``; creates the database first. Returns the steps."""
    steps = plan(clickhouse, to)
    if dry_run or not steps:
        return steps
    clickhouse.ensure_database(timeout=STATEMENT_TIMEOUT)
    dialect = Dialect(clickhouse.version(), clickhouse.database, clickhouse.cluster)
    for statement in _log_table(dialect):
        clickhouse.execute(statement, timeout=STATEMENT_TIMEOUT)
    for step in steps:
        for statement in step.statements:
            clickhouse.execute(statement, timeout=STATEMENT_TIMEOUT)
        _record(clickhouse, step)
    return steps


def _log_table(dialect: Dialect) -> list[str]:
    return dialect.create_everywhere(
        "schema_migrations",
        """    at_us UInt64,
    number UInt32,
    name String,
    direction String,
    sha256 String""",
        engine="MergeTree",
        clauses="ORDER BY at_us",
    )


def _applied(clickhouse: ClickHouse) -> dict[int, datetime]:
    try:
        rows = clickhouse.query(
            """
            SELECT number, argMax(direction, at_us) AS last_direction, max(at_us) AS last_us
            FROM schema_migrations GROUP BY number
            """
        )
    except ClickHouseQueryError as error:
        if error.code in (UNKNOWN_TABLE, UNKNOWN_DATABASE):
            return {}
        raise
    return {
        row["number"]: datetime.fromtimestamp(row["last_us"] // 1_000_000, UTC)
        for row in rows
        if row["last_direction"] == Direction.FORWARD
    }


def _record(clickhouse: ClickHouse, step: Step) -> None:
    migration = step.migration
    at_us = int(datetime.now(UTC).timestamp() * 1_000_000)
    clickhouse.insert(
        "schema_migrations",
        ("at_us", "number", "name", "direction", "sha256"),
        [(at_us, migration.number, migration.name, step.direction.value, hash_of(migration))],
    )


def hash_of(migration: Migration) -> str:
    """What FROZEN holds of a landed migration: the hash of its file."""
    return sha256((FOLDER / f"{migration.name}.py").read_bytes()).hexdigest()


def frozen() -> dict[str, str]:
    """Names of landed migrations and their hashes, as FROZEN has them."""
    lines = FROZEN.read_text().splitlines()
    return {name: digest for name, _, digest in (line.partition(" ") for line in lines)}
