"""Decisions as rows: the outbox, and what each conversation was given last."""

from datetime import datetime
from typing import Any

from django.db import transaction

from routing.archive import split_version
from routing.engine import canonical_json
from routing.models import ConversationSelection, Selection


def row_of(core: dict[str, Any], caller: str, source: str, now: datetime) -> Selection:
    """A decision's row, not saved. ``core`` is what ``Decision.core`` gives."""
    policy, snapshot = split_version(core["bundle_version"])
    return Selection(
        decision_id=core["decision_id"],
        decided_at=datetime.fromisoformat(core["decided_at"]),
        recorded_at=now,
        tenant=core["tenant"],
        persona=core["persona"],
        task=core["task"],
        conversation_id=core["conversation_id"],
        profile=core["profile"]["slug"],
        reason=core["reason"],
        source=source,
        caller=caller[:160],
        policy=policy,
        snapshot=snapshot,
        core=canonical_json(core).decode(),
    )


def record(rows: list[Selection]) -> None:
    """Commit decisions made elsewhere; one that is there already stays as it is."""
    with transaction.atomic():
        Selection.objects.bulk_create(rows, ignore_conflicts=True)
        remember(_newest_by_conversation(rows))


def _newest_by_conversation(rows: list[Selection]) -> list[Selection]:
    newest: dict[tuple[str, str, str], Selection] = {}
    for row in rows:
        key = (row.tenant, row.persona, row.conversation_id)
        if key not in newest or newest[key].decided_at <= row.decided_at:
            newest[key] = row
    # What was told late must not overwrite what happened since.
    known = ConversationSelection.objects.filter(
        tenant__in={row.tenant for row in rows}, conversation_id__in={row.conversation_id for row in rows}
    )
    later = {(one.tenant, one.persona, one.conversation_id): one.decided_at for one in known}
    return [row for key, row in newest.items() if key not in later or later[key] <= row.decided_at]


def remember(rows: list[Selection]) -> None:
    """Note what conversations were given last; takes part in the caller's transaction. One row a conversation."""
    ConversationSelection.objects.bulk_create(
        [
            ConversationSelection(
                tenant=row.tenant,
                persona=row.persona,
                conversation_id=row.conversation_id,
                profile=row.profile,
                reason=row.reason,
                decision_id=row.decision_id,
                decided_at=row.decided_at,
                origin=None,
            )
            for row in rows
        ],
        update_conflicts=True,
        unique_fields=["tenant", "conversation_id", "persona"],
        update_fields=["profile", "reason", "decision_id", "decided_at", "origin"],
    )
