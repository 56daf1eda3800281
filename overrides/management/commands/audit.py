"""`manage.py audit verify`: whether the audit log is what was written."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from overrides.audit import verify


class Command(BaseCommand):
    help = (
        "Check the audit log's hash chain from the first entry to its head; exits with 1 at the first break."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("action", choices=["verify"])

    def handle(self, **options: Any) -> None:
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
