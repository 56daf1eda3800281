"""Selecting: decide by the bundle and one row (what the conversation was given last), then commit.

The decision, its place in the outbox and the conversation's last profile are in the database before the
answer goes out. While the database is away they are in the journal instead (routing.journal).
"""

import time
from datetime import datetime
from typing import Any

import orjson
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone

from catalog.outage import AWAY, outage
from observability.meters import meters
from routing.bundle import current_bundle
from routing.engine import Decision, SelectionRequest, canonical_json, decide
from routing.journal import journal
from routing.models import ConversationSelection, Selection
from routing.records import remember, row_of
from routing.repeats import Asked, repeats
from routing.replay import replay


def select(asked: Asked, caller: str, at: datetime) -> dict[str, Any]:
    """The decision as JSON values, committed. The same ``request_id`` gives the same answer again.

    Raises SelectionProblem; OperationalError only when there has never been a bundle, or nothing can take the decision.
    """
    began = time.perf_counter()
    answer = repeats.once(asked, lambda: _select(asked, caller, at))
    meters().decision_seconds.observe(time.perf_counter() - began)
    return answer


def _select(asked: Asked, caller: str, at: datetime) -> dict[str, Any]:
    bundle = current_bundle()
    try:
        with outage.watch():
            if asked.request_id is not None and (earlier := _earlier(asked)):
                return earlier
            decision = decide(bundle, _request(asked, at, _last_profile(asked)))
            return _commit(asked, decision, caller)
    except AWAY:
        decision = decide(bundle, _request(asked, at, None))
        _journal(canonical_json([caller, decision.core()]))
        meters().decisions(decision.reason.value, Selection.Source.JOURNAL.value).inc()
        answer = decision.to_dict()
        repeats.keep(asked, answer)
        return answer


def _journal(line: bytes) -> None:
    try:
        journal.append(line)
    except OSError as error:
        # It is not answered then: the worker decides by itself, and tells later.
        raise OperationalError(f"Neither the database nor the journal takes a decision: {error}") from error


def _request(asked: Asked, at: datetime, last_profile: str | None) -> SelectionRequest:
    return SelectionRequest(
        tenant=asked.tenant,
        persona=asked.persona,
        conversation_id=asked.conversation_id,
        at=at,
        task=asked.task,
        exclude=asked.exclude,
        last_profile=last_profile,
        request_id=asked.request_id,
    )


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
    meters().decisions(decision.reason.value, Selection.Source.REMOTE.value).inc()
    return decision.to_dict()


def _earlier(asked: Asked) -> dict[str, Any] | None:
    """The answer that this ``request_id`` got; a problem when it was asked something else."""
    row = Selection.objects.filter(tenant=asked.tenant, request_id=asked.request_id).first()
    if row is None:
        return None
    core = orjson.loads(row.core)
    names = ("tenant", "persona", "conversation_id", "task", "request_id")
    asked.refuse_other(Asked(**{name: core[name] for name in names}, exclude=tuple(core["exclude"])))
    decision = replay(row).decision
    # Without its candidates a decision is still the same decision.
    return decision.to_dict() if decision else {**core, "candidates": []}
