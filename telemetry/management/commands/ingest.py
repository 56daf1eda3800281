"""manage.py ingest FILE: completion events from a CSV or NDJSON file into the spool."""

from argparse import ArgumentParser
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from telemetry import files, spool
from telemetry.clickhouse import ClickHouseError, get_clickhouse
from telemetry.ingest import accept
from telemetry.models import IngestedFile

_BATCH = 1_000


class Command(BaseCommand):
    help = (
        "Read completion events (v1) from a CSV or NDJSON file. Each event is judged alone; refused ones go "
        "to quarantine. Interrupted, it resumes where it stopped; run twice on one file, it adds nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="columns or members as in the completion event schema")
        parser.add_argument("--format", choices=["csv", "ndjson"], help="default: by the file's name")
        parser.add_argument("--restart", action="store_true", help="read the file again from its first line")
        parser.add_argument("--drain", action="store_true", help="also send the spool to ClickHouse now")
        parser.add_argument("--no-progress", action="store_true", help="print no progress bar")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            source = files.inspect(options["file"], options["format"])
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from None
        state, _ = IngestedFile.objects.get_or_create(
            sha256=source.sha256, defaults={"path": str(source.path)[:500]}
        )
        if options["restart"]:
            state.lines_done = state.accepted = state.rejected = 0
            state.finished_at = None
        if state.finished_at:
            self.stdout.write(
                f"{source.path.name} was ingested at {state.finished_at:%Y-%m-%d %H:%M} UTC: "
                f"{state.accepted} accepted, {state.rejected} rejected. Use --restart to read it again."
            )
        else:
            reasons = self._read(source, state, show=not options["no_progress"])
            self._report(source, state, reasons)
        if options["drain"]:
            self._drain()

    def _read(self, source: files.Source, state: IngestedFile, *, show: bool) -> Counter[str]:
        reasons: Counter[str] = Counter()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=not show) as progress:
            task = progress.add_task("ingest", total=source.lines, completed=state.lines_done)
            for batch in files.batches(source, state.lines_done, _BATCH):
                now = timezone.now()
                # What retention would drop is refused: rolled up alone, it would replace fuller totals.
                oldest = now - timedelta(days=settings.RETENTION_DAYS["completions"] - 1)
                # Rows and progress commit together, so a kill between them cannot lose or repeat a batch.
                with transaction.atomic():
                    outcome = accept(batch, source="file", now=now, tenants=None, oldest=oldest)
                    state.lines_done += len(batch)
                    state.accepted += outcome.accepted
                    state.rejected += len(outcome.rejected)
                    state.save()
                reasons.update(rejection.code for rejection in outcome.rejected)
                progress.update(task, completed=state.lines_done)
            progress.update(task, completed=source.lines)
        state.finished_at = timezone.now()
        state.save()
        return reasons

    def _report(self, source: files.Source, state: IngestedFile, reasons: Counter[str]) -> None:
        self.stdout.write(f"{source.path.name}: {state.accepted} accepted, {state.rejected} rejected.")
        for code, count in reasons.most_common():
            self.stdout.write(f"  {code}: {count} (see Quarantined events in the admin)")

    def _drain(self) -> None:
        total = 0
        try:
            while sent := spool.drain(get_clickhouse(), timezone.now(), settings.DRAIN_BLOCK_ROWS):
                total += sent
        except ClickHouseError as error:
            raise CommandError(
                f"The events are safe in the spool, but ClickHouse is not reachable: {error}"
            ) from None
        self.stdout.write(f"{total} events sent to ClickHouse.")
