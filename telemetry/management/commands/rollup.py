"""manage.py rollup --from --to: recompute roll-ups from raw events."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.progress import Progress

from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.rollups import backfill


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no ISO 8601 date or time, for example 2026-11-01T06:00"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class Command(BaseCommand):
    help = (
        "Recompute the 5m, 1h and 24h roll-ups of a time range from raw events (UTC unless a zone is given). "
        "Safe at any time: roll-ups are replaced, never added to."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--from", dest="start", type=_moment, required=True, metavar="TIME")
        parser.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="default: now")
        parser.add_argument("--no-progress", action="store_true", help="print no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        start, end = options["start"], options["end"] or timezone.now()
        if start >= end:
            raise CommandError("--from must be before --to.")
        with Progress(disable=options["no_progress"]) as progress:
            task = progress.add_task("days")
            try:
                done = backfill(
                    get_clickhouse(),
                    start,
                    end,
                    timezone.now,
                    lambda at, total: progress.update(task, completed=at, total=total),
                )
            except ClickHouseError as error:
                raise CommandError(f"ClickHouse: {error}") from None
        self.stdout.write(f"{done} five-minute buckets recomputed.")
