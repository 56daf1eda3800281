"""Selecting: decide by the bundle and one row (what the conversation was given last), then commit.

The decision, its place in the outbox and the conversation's last profile are in the database before the
answer goes out. While the database is away they are in the journal instead (routing.journal).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.outage import AWAY, outage
from routing.bundle import current_bundle
from routing.engine import Decision, SelectionProblem, SelectionRequest, canonical_json, decide
from routing.journal import journal
from routing.models import ConversationSelection, Selection
from routing.records import remember, row_of
from routing.replay import replay


@dataclass(frozen=True, slots=True)
class Asked:
    """What a worker asks, before it is known when, and what the conversation had last."""

    tenant: str
    persona: str
    conversation_id: str
    task: str = "general"
    exclude: tuple[str, ...] = ()
    request_id: str | None = None

    def at(self, at: datetime, last_profile: str | None) -> SelectionRequest:
        return SelectionRequest(
            tenant=self.tenant,
            persona=self.persona,
            conversation_id=self.conversation_id,
            at=at,
            task=self.task,
            exclude=self.exclude,
            last_profile=last_profile,
            request_id=self.request_id,
        )


def select(asked: Asked, caller: str, at: datetime) -> dict[str, Any]:
    """The decision as JSON values, committed. The same ``request_id`` gives the same answer again.

    Raises SelectionProblem; OperationalError only when there has never been a bundle.
    """
    bundle = current_bundle()
    try:
        with outage.watch():
            if asked.request_id is not None and (earlier := _earlier(asked)):
                return earlier
            decision = decide(bundle, asked.at(at, _last_profile(asked)))
            return _commit(asked, decision, caller)
    except AWAY:
        decision = decide(bundle, asked.at(at, None))
        journal.append(canonical_json([caller, decision.core()]))
        return decision.to_dict()


def _last_profile(asked: Asked) -> str | None:
    rows = ConversationSelection.objects.filter(
        tenant=asked.tenant, conversation_id=asked.conversation_id, persona=asked.persona
    )
    return rows.values_list("profile", flat=True).first()


def _commit(asked: Asked, decision: Decision, caller: str) -> dict[str, Any]:
    row = row_of(decision.core(), caller, Selection.Source.REMOTE, timezone.now())
    row.request_id = asked.request_id
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            remember([row])
    except IntegrityError:
        # The same request arrived twice at once, and the other was faster; or it is this very decision.
        if asked.request_id is not None and (earlier := _earlier(asked)):
            return earlier
        if not Selection.objects.filter(decision_id=decision.decision_id).exists():
            raise
    return decision.to_dict()


def _earlier(asked: Asked) -> dict[str, Any] | None:
    """The answer that this ``request_id`` got; a problem when it was asked something else."""
    row = Selection.objects.filter(tenant=asked.tenant, request_id=asked.request_id).first()
    if row is None:
        return None
    core = orjson.loads(row.core)
    if any(core[name] != getattr(asked, name) for name in ("persona", "conversation_id", "task")) or tuple(
        core["exclude"]
    ) != tuple(asked.exclude):
        raise SelectionProblem(
            409,
            "request_id_reused",
            f"The request_id '{asked.request_id}' was used for another request; use a new one per request.",
        )
    decision = replay(row).decision
    # Without its candidates a decision is still the same decision.
    return decision.to_dict() if decision else {**core, "candidates": []}
