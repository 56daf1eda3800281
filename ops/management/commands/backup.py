"""manage.py backup --to DIR: the Django database and ClickHouse into a folder of files."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from ops.backup import BackupError
from ops.backup.making import Made, Told, make
from ops.backup.progress import shown
from telemetry.clickhouse import ClickHouseError, get_clickhouse


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


class Command(BaseCommand):
    help = (
        "Copy the Django database and ClickHouse into a new folder, with checksums and a signed manifest. The product "
        "may go on meanwhile (but for the embedded engine, whose files one process owns). SECRET_KEY and "
        "AUDIT_SIGNING_KEY are not in it: keep them elsewhere."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to", type=Path, required=True, metavar="DIR", help="where the new folder is made"
        )
        parser.add_argument(
            "--keep",
            type=_count,
            metavar="N",
            help="delete all but the newest N afterwards; default: all stay",
        )
        parser.add_argument(
            "--without-clickhouse", action="store_true", help="only the Django database and the audit log"
        )
        parser.add_argument("--no-progress", action="store_true", help="print no progress")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        door = None if options["without_clickhouse"] else get_clickhouse()
        try:
            with shown(not options["no_progress"]) as (step, rows):
                made = make(options["to"], door, timezone.now, Told(step, rows), options["keep"])
        except BackupError as error:
            raise CommandError(f"{error} Nothing was backed up.") from None
        except ClickHouseError as error:
            raise CommandError(f"ClickHouse: {error}. Nothing was backed up.") from None
        except DatabaseError as error:
            raise CommandError(f"The Django database: {error}. Nothing was backed up.") from None
        except OSError as error:
            raise CommandError(
                f"{error.filename or options['to']}: {error.strerror}. Nothing was backed up."
            ) from None
        self._tell(made, time.monotonic() - began)

    def _tell(self, made: Made, seconds: float) -> None:
        told = made.manifest
        self.stdout.write(
            f"{made.folder}: {made.size / 1e6:,.1f} MB in {len(told.parts)} files, {seconds:.1f} s."
        )
        self.stdout.write(f"  {told.database.vendor}: {sum(told.database.tables.values()):,} rows")
        if told.clickhouse:
            for name, table in told.clickhouse.tables.items():
                self.stdout.write(f"  ClickHouse {name}: {table.rows:,} rows")
        for path in made.removed:
            self.stdout.write(f"  deleted {path}")
        if told.audit.problem:
            raise CommandError(f"The backup is whole, but the audit log is not. {told.audit.problem}")
        self.stdout.write(f"  audit log: {told.audit.entries:,} entries, all as they were written")
