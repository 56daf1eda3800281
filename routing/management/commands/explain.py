"""`manage.py explain DECISION_ID`: why a conversation got its profile, decided again and compared."""

import json
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from routing.api import explained
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
        self.stdout.write(json.dumps(told, indent=2) if options["json"] else _text(told))
        if told["replay"]["verdict"] != Selection.Replay.EQUAL.value:
            raise CommandError(told["replay"]["detail"], returncode=1)


def _text(told: dict[str, Any]) -> str:
    lines = [
        f"{told['profile']['slug']}  ({told['reason']}, decided by {told['decided_by']})",
        f"  {told['explanation']}",
        f"  {told['tenant']} x {told['persona']}, task {told['task']}, conversation {told['conversation_id']}",
        f"  decided at {told['decided_at']}, metrics {told['freshness']} as of {told['as_of']}",
        f"  bundle {told['bundle_version']}, propensity {told['propensity']:g}",
        f"  if it fails: {', '.join(told['fallback']) or 'nothing else'}",
        "",
    ]
    for card in told["candidates"]:
        rank = card["rank"] or "-"
        score = "" if card["score"] is None else f"{card['score']:.3f}"
        lost = card["contrast"]["sentence"] if card["contrast"] else "; ".join(card["why_not"])
        lines.append(f"  {rank:>3} {card['profile']:<26} {score:>6}  {lost}")
    lines += ["", told["replay"]["detail"]]
    return "\n".join(lines)
