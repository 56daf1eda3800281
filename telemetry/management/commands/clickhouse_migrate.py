"""``manage.py clickhouse_migrate``: bring ClickHouse's schema to a version, or show where it is."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from telemetry.clickhouse import ClickHouse, ClickHouseError, get_clickhouse
from telemetry.clickhouse_migrations import runner


class Command(BaseCommand):
    help = "Apply ClickHouse migrations, creating the database if there is none."
    requires_system_checks: list[str] = []  # it may be what makes them pass

    def add_arguments(self, parser: ArgumentParser) -> None:
        only_show = parser.add_mutually_exclusive_group()
        only_show.add_argument("--status", action="store_true", help="show which migrations are applied")
        only_show.add_argument("--dry-run", action="store_true", help="print the statements, change nothing")
        parser.add_argument(
            "--to", type=int, metavar="N", help="apply or undo until exactly 1 to N are applied; 0 undoes all"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            clickhouse = get_clickhouse()
            if options["status"]:
                self._show_status(clickhouse)
            else:
                self._migrate(clickhouse, options["to"], dry_run=options["dry_run"])
        except (ClickHouseError, ValueError) as error:
            raise CommandError(" ".join(str(error).split())) from error

    def _show_status(self, clickhouse: ClickHouse) -> None:
        for one in runner.status(clickhouse):
            mark = "[ ]" if one.applied_at is None else "[X]"
            when = "" if one.applied_at is None else f"  {one.applied_at:%Y-%m-%d %H:%M:%S} UTC"
            self.stdout.write(f"{mark} {one.migration.name}{when}")

    def _migrate(self, clickhouse: ClickHouse, to: int | None, *, dry_run: bool) -> None:
        steps = runner.migrate(clickhouse, to, dry_run=dry_run)
        if not steps:
            self.stdout.write("Nothing to do.")
        for step in steps:
            if dry_run:
                self.stdout.write(f"-- {step.migration.name} {step.direction}")
                self.stdout.writelines(f"{statement};\n" for statement in step.statements)
            else:
                undone = step.direction is runner.Direction.BACKWARD
                self.stdout.write(f"{'Undone' if undone else 'Applied'} {step.migration.name}")
