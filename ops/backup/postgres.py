"""The Django database as PostgreSQL: pg_dump and pg_restore, which must not be older than the server."""

import os
import subprocess
from pathlib import Path

from django.db import connection, transaction

from config.postgres import unhurried
from ops.backup import BackupError

FILE = "database.pgdump"
#: Whoever holds a backup must not be signed in by it.
_EMPTIED = ("django_session",)
#: Seconds; a database that takes longer is backed up by its own means (docs/operations.md).
_TIMEOUT = 6 * 3600


def server() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def dump(file: Path) -> dict[str, int]:
    """Dump the database as it is at one moment; rows by table, of that moment."""
    with transaction.atomic(), unhurried(connection.connection), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SELECT pg_export_snapshot()")
        [snapshot] = cursor.fetchone()
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        options += [f"--exclude-table-data={table}" for table in _EMPTIED]
        _run("pg_dump", *options, f"--file={file}")
        rows = {}
        for table in sorted(_tables()):
            cursor.execute(f'SELECT count(*) FROM "{table}"')  # noqa: S608  # the database's own names
            rows[table] = 0 if table in _EMPTIED else cursor.fetchone()[0]
        return rows


def others() -> int:
    """How many connections of other processes the database has. This one's pool may have more than one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = "
            "'client backend' AND pid <> pg_backend_pid() AND application_name <> current_setting('application_name')"
        )
        return int(cursor.fetchone()[0])


def load(file: Path) -> None:
    """Drop every table of the schema, then restore: all of it or nothing."""
    with transaction.atomic(), connection.cursor() as cursor:
        quoted = [f'"{table}"' for table in sorted(_tables())]
        if quoted:
            cursor.execute(f"DROP TABLE {', '.join(quoted)} CASCADE")
        cursor.execute("DROP FUNCTION IF EXISTS audit_append_only() CASCADE")
    connection.close()
    name = connection.settings_dict["NAME"]
    _run(
        "pg_restore",
        *("--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", f"--dbname={name}"),
        str(file),
    )


def skip_ids(table: str, count: int) -> None:
    """Leave ``count`` ids of a table unused."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'id'), nextval(pg_get_serial_sequence(%s, 'id')) + %s)",
            [table, table, count],
        )


def _tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return {name for (name,) in cursor.fetchall()}


def _run(program: str, *arguments: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # a fixed program, and no shell
            [program, *arguments],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except FileNotFoundError:
        raise BackupError(f"{program} is not installed: it comes with PostgreSQL's client package.") from None
    except subprocess.TimeoutExpired:
        raise BackupError(f"{program} did not end within {_TIMEOUT // 3600} hours.") from None
    if done.returncode != 0:
        raise BackupError(f"{program} failed: {done.stderr.strip()[-1000:]}")


def _environment() -> dict[str, str]:
    """The connection as libpq's variables: a command line would show the password to every user of the machine."""
    told = connection.settings_dict
    named = {
        "PGHOST": "HOST",
        "PGPORT": "PORT",
        "PGUSER": "USER",
        "PGPASSWORD": "PASSWORD",
        "PGDATABASE": "NAME",
    }
    values = {variable: str(told[name]) for variable, name in named.items() if told.get(name)}
    ssl = {
        f"PG{name.upper()}": str(value) for name, value in told["OPTIONS"].items() if name.startswith("ssl")
    }
    return {**os.environ, "PGCONNECT_TIMEOUT": "10", **values, **ssl}
