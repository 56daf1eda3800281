"""`manage.py audit verify|export`: whether the audit log is what was written, and a copy of it."""

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

import orjson
from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_aware

from overrides.audit import MEMBERS, verify
from overrides.models import AuditEntry
from overrides.selectors import audit_entries


class Command(BaseCommand):
    help = "Check the audit log's hash chain (exits with 1 at the first break), or export the log."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("verify", help="check every entry, every link and the head")
        export = actions.add_parser("export", help="write entries, oldest first")
        export.add_argument("--format", choices=["csv", "ndjson"], default="ndjson")
        export.add_argument("--since", type=_moment, help="ISO 8601 with a zone")
        export.add_argument("--tenant", help="only this tenant's entries, and those of all tenants")
        export.add_argument("--output", metavar="FILE", help="default: standard output")

    def handle(self, *, action: str, **options: Any) -> None:
        if action == "verify":
            self._verify()
        else:
            self._export(**{name: options[name] for name in ("format", "since", "tenant", "output")})

    def _verify(self) -> None:
        verdict = verify()
        if verdict.broken_at is not None:
            raise CommandError(
                f"The chain breaks at entry {verdict.broken_at}: {verdict.why}. "
                f"{verdict.entries} entries before it are as they were written.",
                returncode=1,
            )
        self.stdout.write(
            f"{verdict.entries} entries, all as they were written. Last hash: {verdict.last_hash}"
        )

    def _export(self, format: str, since: datetime | None, tenant: str | None, output: str | None) -> None:
        entries = audit_entries(None if tenant is None else frozenset({tenant})).order_by("seq")
        if since is not None:
            entries = entries.filter(at__gte=since)
        write = _csv if format == "csv" else _ndjson
        if output is None:
            write(entries.iterator(chunk_size=2000), sys.stdout)
            return
        try:
            with open(output, "x", encoding="utf-8", newline="") as file:
                count = write(entries.iterator(chunk_size=2000), file)
        except OSError as error:
            raise CommandError(f"{output}: {error.strerror}") from None
        self.stdout.write(f"{count} entries written to {output}")


def _moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None or not is_aware(moment):
        raise ValueError("not an ISO 8601 time with a zone")
    return moment


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in MEMBERS}


def _ndjson(entries: Iterator[AuditEntry], file: IO[str]) -> int:
    count = 0
    for entry in entries:
        file.write(orjson.dumps(_row(entry)).decode() + "\n")
        count += 1
    return count


def _csv(entries: Iterator[AuditEntry], file: IO[str]) -> int:
    writer = csv.writer(file)
    writer.writerow(MEMBERS)
    count = 0
    for entry in entries:
        row = _row(entry)
        row |= {name: orjson.dumps(row[name]).decode() for name in ("before", "after")}
        row["at"] = entry.at.isoformat()
        writer.writerow([_inert(row[name]) for name in MEMBERS])
        count += 1
    return count


def _inert(value: Any) -> Any:
    """Spreadsheets run cells that begin like a formula: an apostrophe makes them text."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
