"""manage.py restore --from DIR: a backup put in place."""

import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from ops.backup import BackupError
from ops.backup.making import Told
from ops.backup.manifest import Manifest
from ops.backup.progress import shown
from ops.backup.restoring import Restored, check, refuse_used, restore
from telemetry.clickhouse import ClickHouseError, get_clickhouse


class Command(BaseCommand):
    help = (
        "Check a backup, then put it in place of the Django database and ClickHouse, migrate both to this version, "
        "verify the audit log, and ask for roll-ups where the copies may differ. Stop the product first."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from", dest="folder", type=Path, required=True, metavar="DIR", help="a folder that backup made"
        )
        parser.add_argument("--check", action="store_true", help="only check the backup; change nothing")
        parser.add_argument(
            "--force",
            action="store_true",
            help="replace what is there, whoever is connected; it is gone then",
        )
        parser.add_argument(
            "--unsigned", action="store_true", help="do not ask who signed the backup's manifest"
        )
        parser.add_argument(
            "--without-clickhouse", action="store_true", help="leave ClickHouse's rows as they are"
        )
        parser.add_argument("--no-progress", action="store_true", help="print no progress")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        folder: Path = options["folder"]
        try:
            with shown(not options["no_progress"]) as (step, rows):
                found = check(folder, signed=not options["unsigned"], told=step)
                if options["check"]:
                    self._say(found)
                    return
                door = get_clickhouse()
                replaced = None if options["without_clickhouse"] or found.clickhouse is None else door
                if not options["force"]:
                    refuse_used(replaced)
                restored = restore(
                    folder, found, door, timezone.now, Told(step, rows), fill=replaced is not None
                )
        except BackupError as error:
            raise CommandError(str(error)) from None
        except ClickHouseError as error:
            raise CommandError(
                f"ClickHouse: {error}. When that is mended, run it again, with --force if anything was restored."
            ) from None
        except DatabaseError as error:
            raise CommandError(f"The Django database: {error}") from None
        except OSError as error:
            raise CommandError(f"{error.filename or folder}: {error.strerror}") from None
        self._tell(found, restored, time.monotonic() - began)

    def _say(self, found: Manifest) -> None:
        self.stdout.write(
            f"Whole, as it was made at {found.began_at:%Y-%m-%d %H:%M:%S} UTC: {len(found.parts)} files, "
            f"{found.audit.entries:,} audit entries."
        )

    def _tell(self, found: Manifest, restored: Restored, seconds: float) -> None:
        self.stdout.write(f"Restored as of {found.began_at:%Y-%m-%d %H:%M:%S} UTC in {seconds:.1f} s.")
        if found.clickhouse is None:
            self.stdout.write("  ClickHouse was not in the backup and is as it was.")
        self.stdout.write(
            f"  {restored.dirty:,} five-minute buckets will be rolled up again once a worker runs."
        )
        if restored.aside:
            self.stdout.write(
                f"  {restored.lost_entries:,} audit entries were checkpointed after the backup and are lost; the "
                f"checkpoints of them are kept in {restored.aside}."
            )
        if restored.problems:
            raise CommandError("The data is restored, but: " + " ".join(restored.problems))
        self.stdout.write(
            f"  audit log: {restored.entries:,} entries, all as they were written, and one of this."
        )
