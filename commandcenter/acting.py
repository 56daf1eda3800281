"""What the pages share that change something: the form's key and reason, one act per form, and refusals in words."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse

from catalog.access import Caller
from catalog.problems import Problem
from commandcenter.toasts import Toast
from overrides import idempotency
from overrides.approvals import Outcome, Refused
from overrides.audit import Actor
from overrides.changes import Change
from overrides.models import AuditEntry
from overrides.services import Conflict, NotStanding
from overrides.settings import Changed, Missing

SHORT = "Say why, in 10 characters or more: others will ask."
#: What the services refuse with, besides NeedsApproval.
REFUSALS = (ValidationError, Conflict, NotStanding, Changed, Missing, Refused, Problem)


def reason_of(query: Any) -> str:
    return str(query.get("reason", "")).strip()[:500]


def key_of(query: Any) -> str:
    """The form's key, or a new one for a form that is shown for the first time."""
    return str(query.get("key", ""))[:100] or uuid.uuid4().hex


def once(
    request: HttpRequest, who: Caller, now: datetime, act: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Act once per form; the same form sent again gets the first answer. Raises Problem for a form without a key, or
    one that was sent with other values; and what ``act`` raises."""
    key = request.POST.get("key", "")
    if not key:
        raise Problem(400, "invalid", "This form has no key: reload the page.")
    told = sorted((name, values) for name, values in request.POST.lists() if name != "csrfmiddlewaretoken")
    print_ = idempotency.fingerprint(request.path, told)
    return idempotency.once(who.name, key, print_, now, lambda: (200, act()))[1]


def sentence(error: Exception) -> str:
    """A refusal in words."""
    if isinstance(error, ValidationError):
        return " ".join(error.messages)
    if isinstance(error, Problem):
        return str(error.detail)
    return str(error)


def answer_of(outcome: Outcome, change: Change, actor: Actor, now: datetime) -> dict[str, Any]:
    """What came of a change, as ``once`` keeps it: the change request that it waits as, or its entry (None: it was so
    already). In the transaction of the change."""
    if outcome.request is not None:
        return {"change_request": outcome.request.pk}
    entry = AuditEntry.objects.filter(
        object_type=change.object_type, object_id=change.target, actor=actor.name[:160], at=now
    ).first()
    return {"entry": entry.seq if entry else None}


def toast_of(done: dict[str, Any], text: str) -> Toast:
    """What is said of it, with Undo where something changed."""
    if "change_request" in done:
        told = f"Nothing is changed yet: change request {done['change_request']} waits for somebody else's approval."
        return Toast(told, "warning")
    if done["entry"] is None:
        return Toast("Nothing to do: it was so already.")
    undo = reverse("admin:center_audit_undo", args=[done["entry"]])
    return Toast(
        text, undo=undo, fields={"key": uuid.uuid4().hex, "reason": "Taken back from the toast", "toast": "1"}
    )
