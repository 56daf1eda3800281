"""`manage.py audit verify|checkpoint|key|export`: whether the audit log is what was written, and a copy of it."""

import base64
import secrets
import sys
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_aware

from overrides import checkpoints, exporting
from overrides.audit import verify
from overrides.selectors import audit_entries


class Command(BaseCommand):
    help = (
        "Check the audit log's hash chain and its signed checkpoints (exits with 1 at the first misfit), sign a "
        "checkpoint, show the public key, or export the log."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        verifying = actions.add_parser(
            "verify", help="check every entry, every link, the head, the checkpoints"
        )
        verifying.add_argument(
            "--checkpoints",
            nargs="+",
            type=Path,
            metavar="FILE",
            help="checkpoint files, or logs that hold checkpoints; default: AUDIT_CHECKPOINT_FILE",
        )
        verifying.add_argument(
            "--public-key",
            action="append",
            metavar="KEY",
            help="trust only this key, in base64 (may be given several times); default: ours and AUDIT_PUBLIC_KEYS",
        )
        actions.add_parser("checkpoint", help="sign what was added since the last checkpoint")
        key = actions.add_parser("key", help="print the public key that checkpoints are verified with")
        key.add_argument("--new", action="store_true", help="make another key pair; nothing is stored")
        export = actions.add_parser("export", help="write entries, oldest first")
        export.add_argument("--format", choices=["csv", "ndjson"], default="ndjson")
        export.add_argument("--since", type=_moment, help="ISO 8601 with a zone")
        export.add_argument("--tenant", help="only this tenant's entries, and those of all tenants")
        export.add_argument("--output", metavar="FILE", help="default: standard output")

    def handle(self, *, action: str, **options: Any) -> None:
        if action == "verify":
            self._verify(options["checkpoints"], options["public_key"])
        elif action == "checkpoint":
            self._checkpoint()
        elif action == "key":
            self._key(new=options["new"])
        else:
            self._export(**{name: options[name] for name in ("format", "since", "tenant", "output")})

    def _verify(self, files: list[Path] | None, public_keys: list[str] | None) -> None:
        # A bad argument is told before the work.
        keys, found = _trusted(public_keys), self._read(files)
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
        try:
            checkpoints.check(found, keys)
        except checkpoints.Misfit as misfit:
            raise CommandError(str(misfit), returncode=1) from None
        last = max(found, key=lambda one: one.seq, default=None)
        if last is not None:
            newer = verdict.entries - last.seq
            self.stdout.write(
                f"{len(found)} checkpoints, all fit. The last is of entry {last.seq}, at {last.at}; "
                f"{newer} entries are newer."
            )

    def _read(self, files: list[Path] | None) -> list[checkpoints.Checkpoint]:
        default = checkpoints.checkpoint_file()
        if files is None and not default.exists():
            self.stderr.write(
                f"There is no checkpoint file {default}. Without checkpoints nobody can see whether the end of the "
                "log was cut off, or all of it rewritten."
            )
            return []
        found = []
        for file in files or [default]:
            try:
                reading = checkpoints.read(file)
            except OSError as error:
                raise CommandError(f"{file}: {error.strerror}") from None
            if reading.torn:
                self.stderr.write(f"{file}: the last line has no end: its writing was cut off.")
            if reading.others:
                self.stderr.write(
                    f"{file}: {reading.others} lines are no checkpoints; they were passed over."
                )
            if not reading.checkpoints:
                self.stderr.write(f"{file}: there is no checkpoint in it.")
            found += reading.checkpoints
        return found

    def _checkpoint(self) -> None:
        try:
            made = checkpoints.write(timezone.now())
        except checkpoints.Misfit as misfit:
            raise CommandError(f"{misfit} Nothing was signed.", returncode=1) from None
        except OSError as error:
            raise CommandError(f"{checkpoints.checkpoint_file()}: {error.strerror}") from None
        if made is None:
            self.stdout.write("Nothing was added since the last checkpoint.")
        else:
            self.stdout.write(made.line())

    def _key(self, new: bool) -> None:
        text = settings.AUDIT_SIGNING_KEY
        if new:
            text = base64.b64encode(secrets.token_bytes(32)).decode()
            self.stdout.write(f"AUDIT_SIGNING_KEY={text}")
        public = checkpoints.private_key(text).public_key()
        self.stdout.write(f"public key: {checkpoints.public_text(public)}")
        self.stdout.write(f"key id: {checkpoints.key_id(public)}")

    def _export(self, format: str, since: datetime | None, tenant: str | None, output: str | None) -> None:
        entries = audit_entries(None if tenant is None else frozenset({tenant}))
        if since is not None:
            entries = entries.filter(at__gte=since)
        found = exporting.in_order(entries)
        lines = exporting.csv_lines(found) if format == "csv" else exporting.ndjson_lines(found)
        if output is None:
            sys.stdout.writelines(lines)
            return
        try:
            with open(output, "x", encoding="utf-8", newline="") as file:
                count = sum(1 for line in lines if file.write(line))
        except OSError as error:
            raise CommandError(f"{output}: {error.strerror}") from None
        # The header is no entry.
        self.stdout.write(f"{count - (format == 'csv')} entries written to {output}")


def _trusted(public_keys: list[str] | None) -> checkpoints.Keys:
    if not public_keys:
        return checkpoints.trusted_keys()
    try:
        given = [checkpoints.public_key(text) for text in public_keys]
    except ValueError:
        raise CommandError(
            "--public-key takes 32 bytes in base64, as `manage.py audit key` prints them."
        ) from None
    return {checkpoints.key_id(key): key for key in given}


def _moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None or not is_aware(moment):
        raise ValueError("not an ISO 8601 time with a zone")
    return moment
