"""The Django database as SQLite: copied by its online backup, while others read and write."""

import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from django.db import connection

from ops.backup import BackupError

FILE = "database.sqlite3"
#: Whoever holds a backup must not be signed in by it.
_EMPTIED = ("django_session",)
#: Seconds that a lock of others is waited for.
_PATIENCE = 20.0


def server() -> str:
    return sqlite3.sqlite_version


def dump(file: Path) -> dict[str, int]:
    """Copy the database as it is at one moment; rows by table."""
    name = connection.settings_dict["NAME"]
    try:
        with _reading(name) as database, closing(sqlite3.connect(file)) as copy:
            _copy(database, copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            tables = _tables(copy)
            for table in tables & set(_EMPTIED):
                copy.execute(f"DELETE FROM {table}")  # noqa: S608  # names from above
            copy.commit()
            copy.execute("VACUUM")
            _check(copy)
            return {table: _rows(copy, table) for table in sorted(tables)}
    except sqlite3.Error as error:
        raise BackupError(f"{name} could not be copied to {file}: {error}.") from error


def _reading(name: str | Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"file:{quote(str(name))}?mode=ro", uri=True))


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """sqlite3.OperationalError when one of them stays locked; Python itself would wait for ever."""
    until = monotonic() + _PATIENCE

    def wait(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and monotonic() > until:
            raise sqlite3.OperationalError("it is locked by another process")

    source.backup(target, progress=wait)


def others() -> int:
    """SQLite does not tell who else has the file open; a writer among them makes ``load`` fail."""
    return 0


def load(file: Path) -> None:
    """Put the copy in the database's place, in one transaction of SQLite's."""
    name = connection.settings_dict["NAME"]
    connection.close()
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with _reading(file) as copy, closing(sqlite3.connect(name)) as database:
            _check(copy)
            _copy(copy, database)
            database.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        raise BackupError(f"{name} could not be replaced: {error}.") from error


def skip_ids(table: str, count: int) -> None:
    """Leave ``count`` ids of a table unused."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sqlite_sequence SET seq = seq + %s WHERE name = %s", [count, table])


def _check(database: sqlite3.Connection) -> None:
    [[verdict]] = database.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok":
        raise BackupError(f"SQLite finds the database damaged: {verdict}")


def _tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return {name for (name,) in rows}


def _rows(database: sqlite3.Connection, table: str) -> int:
    count: int = database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608  # our own names
    return count
