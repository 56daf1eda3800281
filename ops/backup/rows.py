"""ClickHouse's rows, out and in through the door: the same on every engine and version, and over a cluster's shards.

A file holds a partition, as gzipped lines; each line is a JSON array of rows in the order of the table's columns.
"""

import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import sleep
from typing import Any
from uuid import UUID

import orjson

from ops.backup import BackupError
from ops.backup.manifest import Part, Rows, Table, part_of
from telemetry.clickhouse import (
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    ClickHouse,
    ClickHouseQueryError,
    ClickHouseUnavailable,
)
from telemetry.clickhouse_migrations import runner
from telemetry.retention import PARTITIONS

FOLDER = "clickhouse"
#: What is computed goes before what it is computed from: then nothing is in a sum whose events are not there.
TABLES = ("arms_24h", "rollup_24h", "rollup_1h", "rollup_5m", "selections", "completions")
#: Seconds for one partition.
_TIMEOUT = 3600.0
_ROWS_PER_LINE = 5_000
#: Bytes of JSON that are inserted as one block.
_BLOCK_BYTES = 16_000_000
_TRIES = 6
_COMPRESSION = 3


def save(door: ClickHouse, folder: Path, told: Callable[[str, int], None]) -> tuple[Rows, list[Part]]:
    """Write every table's rows below ``folder``. ``told`` is called with a table's name and rows written."""
    tables, parts = {}, []
    for table in TABLES:
        columns = tuple(row["name"] for row in door.query(f"DESCRIBE TABLE {table}"))
        files = [
            _save_partition(door, folder, table, columns, partition, told)
            for partition in _partitions(door, table)
        ]
        tables[table] = Table(
            columns=columns,
            rows=sum(part.rows or 0 for part in files),
            files=tuple(part.path for part in files),
        )
        parts += files
    applied = tuple(one.migration.name for one in runner.status(door) if one.applied_at)
    return Rows(server=".".join(map(str, door.version())), migrations=applied, tables=tables), parts


def _partitions(door: ClickHouse, table: str) -> list[int]:
    function, column = PARTITIONS[table]
    rows = door.query(
        f"SELECT DISTINCT toUInt32({function}({column})) AS part FROM {table} ORDER BY part",  # noqa: S608
        timeout=_TIMEOUT,
    )
    return [row["part"] for row in rows]


def _save_partition(
    door: ClickHouse,
    folder: Path,
    table: str,
    columns: tuple[str, ...],
    partition: int,
    told: Callable[[str, int], None],
) -> Part:
    path = folder / FOLDER / table / f"{partition}.ndjson.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    _, column = PARTITIONS[table]
    start, end = _span(partition)
    # FINAL: of several copies of a row the one that counts.
    sql = (
        f"SELECT {', '.join(columns)} FROM {table} FINAL "  # noqa: S608  # names of our own schema
        f"WHERE {column} >= %(start)s AND {column} < %(end)s"
    )
    count = 0
    with gzip.open(path, "wb", compresslevel=_COMPRESSION) as file:
        for piece in door.stream(sql, {"start": start, "end": end}, timeout=_TIMEOUT):
            for first in range(0, len(piece), _ROWS_PER_LINE):
                rows = piece[first : first + _ROWS_PER_LINE]
                file.write(orjson.dumps(rows, default=_json, option=orjson.OPT_PASSTHROUGH_DATETIME) + b"\n")
            count += len(piece)
            told(table, len(piece))
    return part_of(folder, path, count)


def _span(partition: int) -> tuple[datetime, datetime]:
    """First moment and end of a partition: a day (YYYYMMDD) or a month (YYYYMM)."""
    if partition > 999_999:
        start = datetime(partition // 10_000, partition // 100 % 100, partition % 100, tzinfo=UTC)
        return start, datetime.fromtimestamp(start.timestamp() + 86_400, UTC)
    year, month = divmod(partition, 100)
    return datetime(year, month, 1, tzinfo=UTC), datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _json(value: object) -> object:
    """As the door's ``insert`` takes it on both engines."""
    match value:
        case datetime():
            return int(value.timestamp())
        case Decimal():
            return format(value, "f")
        case UUID():
            return str(value)
    raise TypeError(f"cannot save a {type(value).__name__}")


def used(door: ClickHouse) -> list[str]:
    """Tables that hold rows."""
    return [table for table in TABLES if _count(door, table, "") > 0]


def _count(door: ClickHouse, table: str, final: str) -> int:
    try:
        [row] = door.query(f"SELECT count() AS n FROM {table}{final}", timeout=_TIMEOUT)  # noqa: S608
    except ClickHouseQueryError as error:
        if error.code in (UNKNOWN_TABLE, UNKNOWN_DATABASE):
            return 0
        raise
    return int(row["n"])


def load(door: ClickHouse, folder: Path, saved: Rows, told: Callable[[str, int], None]) -> None:
    """Make the tables anew and fill them; BackupError unless they then hold what was saved."""
    runner.migrate(door, 0)
    runner.migrate(door)
    for name, table in saved.tables.items():
        for file in table.files:
            for rows in _blocks(folder / file):
                _insert(door, name, table.columns, rows)
                told(name, len(rows))
    for name, table in saved.tables.items():
        if (held := _count(door, name, " FINAL")) != table.rows:
            raise BackupError(f"ClickHouse's {name} holds {held} rows; {table.rows} were backed up.")


def _blocks(path: Path) -> Iterator[list[list[Any]]]:
    rows: list[list[Any]] = []
    size = 0
    try:
        with gzip.open(path, "rb") as file:
            for line in file:
                rows += orjson.loads(line)
                size += len(line)
                if size >= _BLOCK_BYTES:
                    yield rows
                    rows, size = [], 0
    except (EOFError, gzip.BadGzipFile, orjson.JSONDecodeError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from error
    if rows:
        yield rows


def _insert(door: ClickHouse, table: str, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    for tried in range(_TRIES):
        try:
            return door.insert(table, columns, rows)
        except ClickHouseUnavailable:
            # Too many parts at once, or a node that just went: a block that is stored twice counts once.
            if tried == _TRIES - 1:
                raise
            sleep(2**tried)
    return None
