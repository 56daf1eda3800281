"""`manage.py explain DECISION_ID`: why a conversation got its profile, decided again and compared."""

import json
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.explaining import as_text, explained
from routing.models import Selection


class Command(BaseCommand):
    help = (
        "Explain a stored decision: decide it again from the archived policy and snapshot, and report "
        "whether it comes out equal, byte for byte. Exits with 1 when it does not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("decision_id", type=uuid.UUID, help="the decision's id, as the API gave it")
        parser.add_argument("--json", action="store_true", help="the whole decision as JSON")

    def handle(self, *, decision_id: uuid.UUID, **options: Any) -> None:
        row = Selection.objects.filter(decision_id=decision_id).first()
        if row is None:
            raise CommandError(
                f"There is no decision {decision_id}, or it is older than SELECTION_KEEP_DAYS."
            )
        told = explained(row)
        self.stdout.write(json.dumps(told, indent=2) if options["json"] else as_text(told))
        if told["replay"]["verdict"] != Selection.Replay.EQUAL.value:
            raise CommandError(told["replay"]["detail"], returncode=1)
