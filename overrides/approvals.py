"""Four eyes: a change of something protected waits as a change request until somebody else approves it.

A request is bound to the hash of its difference: what is wanted of what, and the state it was wanted for. An approval
is for that hash. Whatever edits the request, or the object behind it, makes another hash, and so voids the approval.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from django.db import transaction

from overrides import audit, changes, four_eyes
from overrides.audit import Actor
from overrides.changes import Change
from overrides.models import Approval, AuditEntry, ChangeRequest
from overrides.services import check_reason
from overrides.states import State

OBJECT_TYPE = "change_request"


class Refused(Exception):
    """This step is not possible; ``code`` says why in one word."""

    def __init__(self, code: str, detail: str, current: ChangeRequest | None = None) -> None:
        super().__init__(detail)
        self.code, self.current = code, current


@dataclass(frozen=True, slots=True)
class Outcome:
    """A change is done (``after``), or waits for somebody's approval (``request``)."""

    after: State | None = None
    request: ChangeRequest | None = None


def submit(change: Change, actor: Actor, now: datetime) -> Outcome:
    """Make a change, or propose it where four eyes are needed. Raises what the services raise."""
    try:
        with transaction.atomic():
            return Outcome(after=changes.perform(change, actor, now))
    except four_eyes.NeedsApproval:
        return Outcome(request=propose(change, actor, now))


def propose(change: Change, actor: Actor, now: datetime) -> ChangeRequest:
    """File a change that could be made now. Raises what the services raise."""
    check_reason(change.reason)
    with transaction.atomic():
        request = ChangeRequest(
            kind=change.kind,
            target=change.target,
            authors=[actor.name],
            requested_by=actor.name[:160],
            requested_at=now,
        )
        _fill(request, change, actor, now)
        request.save()
        _note(request, AuditEntry.Verb.PROPOSE, None, actor, change.reason, now)
        return request


def edit(
    pk: int, version: int, wanted: dict[str, Any], reason: str, actor: Actor, now: datetime
) -> ChangeRequest:
    """Want something else, or the same of the object as it is now. Who edits becomes an author, and approvals of what
    it was count no more."""
    check_reason(reason)
    with transaction.atomic():
        request = _locked(pk, version)
        before = describe(request)
        if actor.name not in request.authors:
            request.authors = [*request.authors, actor.name]
        change = replace(change_of(request), wanted=wanted, reason=reason)
        _fill(request, change, actor, now)
        request.version += 1
        request.save()
        _note(request, AuditEntry.Verb.EDIT, before, actor, reason, now)
        return request


def approve(pk: int, diff_hash: str, reason: str, actor: Actor, now: datetime) -> ChangeRequest:
    """Say yes to the difference of this hash. Raises Refused: for an author, and when it is another one now."""
    check_reason(reason)
    with transaction.atomic():
        request = _locked(pk)
        if actor.name in request.authors:
            raise Refused("own_change", "Somebody else must approve it: you proposed or edited this change.")
        if diff_hash != request.diff_hash:
            raise Refused("diff_changed", "The change was edited since you saw it: look again.", request)
        before = describe(request)
        Approval.objects.get_or_create(
            request=request, by=actor.name[:160], diff_hash=diff_hash, defaults={"at": now}
        )
        _note(request, AuditEntry.Verb.APPROVE, before, actor, reason, now)
        return request


def apply(pk: int, actor: Actor, now: datetime) -> tuple[ChangeRequest, State]:
    """Make the approved change. Raises Refused when nobody approved this very difference, or the object is not what it
    was then; and what the services raise."""
    with transaction.atomic():
        request = _locked(pk)
        change = change_of(request)
        standing = _standing(request)
        if not standing:
            raise Refused("not_approved", "Nobody else has approved this change as it is now.", request)
        if _hash(change, changes.touched(change).before) != request.diff_hash:
            raise Refused(
                "diff_changed",
                "The object was changed since this was proposed: edit the request, and have it approved anew.",
                request,
            )
        told = f" (change request {request.pk} by {request.requested_by}, approved by {standing[0].by})"
        change = replace(change, reason=request.reason[: 500 - len(told)] + told)
        after = changes.perform(change, replace(actor, change_request=request.pk), now)
        _close(request, ChangeRequest.State.APPLIED, actor, now)
        return request, after


def close(pk: int, reason: str, actor: Actor, now: datetime) -> ChangeRequest:
    """Reject a change, or withdraw one's own."""
    check_reason(reason)
    with transaction.atomic():
        request = _locked(pk)
        before = describe(request)
        own = actor.name in request.authors
        _close(request, ChangeRequest.State.WITHDRAWN if own else ChangeRequest.State.REJECTED, actor, now)
        verb = AuditEntry.Verb.WITHDRAW if own else AuditEntry.Verb.REJECT
        _note(request, verb, before, actor, reason, now)
        return request


def change_of(request: ChangeRequest) -> Change:
    return Change(request.kind, request.target, request.wanted, request.reason)


def describe(request: ChangeRequest) -> dict[str, Any]:
    """JSON values, as the API and the audit log show it."""
    return {
        "id": request.pk,
        "kind": request.kind,
        "target": request.target,
        "tenant": request.tenant,
        "wanted": request.wanted,
        "before": request.before,
        "after": request.after,
        "diff_hash": request.diff_hash,
        "reason": request.reason,
        "requested_by": request.requested_by,
        "requested_at": request.requested_at.isoformat(),
        "authors": request.authors,
        "approved_by": [approval.by for approval in _standing(request)] if request.pk else [],
        "state": request.state,
        "version": request.version,
        "closed_by": request.closed_by or None,
        "closed_at": request.closed_at.isoformat() if request.closed_at else None,
    }


def _standing(request: ChangeRequest) -> list[Approval]:
    """Approvals that count: of the difference as it is now, by nobody who wrote it."""
    found = [item for item in request.approvals.all() if item.diff_hash == request.diff_hash]
    return [item for item in found if item.by not in request.authors]


def _fill(request: ChangeRequest, change: Change, actor: Actor, now: datetime) -> None:
    about = changes.touched(change)
    request.wanted, request.reason = change.wanted, change.reason
    request.tenant, request.before = about.tenant, about.before
    after = changes.rehearse(change, actor, now)
    # What is made new has its number when it is made.
    request.after = after if about.before is not None else {**after, "id": None}
    request.diff_hash = _hash(change, about.before)


def _hash(change: Change, before: State | None) -> str:
    content = [change.kind, change.target, change.wanted, change.reason, before]
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _locked(pk: int, version: int | None = None) -> ChangeRequest:
    request = ChangeRequest.objects.select_for_update().get(pk=pk)
    if version is not None and request.version != version:
        raise Refused("version_conflict", f"It is at version {request.version} now.", request)
    if request.state != ChangeRequest.State.OPEN:
        raise Refused("not_open", f"This change request is {request.state}.", request)
    return request


def _close(request: ChangeRequest, state: ChangeRequest.State, actor: Actor, now: datetime) -> None:
    request.state, request.closed_by, request.closed_at = state, actor.name[:160], now
    request.version += 1
    request.save()


def _note(
    request: ChangeRequest,
    verb: AuditEntry.Verb,
    before: dict[str, Any] | None,
    actor: Actor,
    reason: str,
    now: datetime,
) -> None:
    audit.append(
        actor,
        verb,
        OBJECT_TYPE,
        str(request.pk),
        tenant=request.tenant,
        before=before,
        after=describe(request),
        reason=reason.strip()[:500],
        at=now,
    )
