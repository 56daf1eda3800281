"""Taking back: what one entry of the audit log tells, or everything by an actor since a time, the plan shown first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from catalog.access import Caller
from commandcenter import acting, auditing
from commandcenter.audited import actor_of
from commandcenter.diffs import difference
from commandcenter.rights import missing
from commandcenter.shell import page, render
from commandcenter.toasts import Toast, only_toast
from commandcenter.views.audit import may_undo_any
from commandcenter.views.flags import changed
from overrides import selectors, undoing
from overrides.models import AuditEntry
from overrides.undoing import Plan, Step
from routing.bundle import caught_up_bundle

#: So many steps of a plan are shown; all are counted, and done.
_SHOWN = 100


@require_http_methods(["GET", "POST"])
@page
def undo_entry(request: HttpRequest, who: Caller, seq: int) -> HttpResponse:
    """GET: what would be taken back. POST: take it back."""
    entry = selectors.audit_entries(who.tenants).filter(seq=seq).first()
    if entry is None:
        raise Http404("There is no such entry that you may see.")
    if lacking := missing(who, entry.object_type, entry.tenant):
        raise PermissionDenied(lacking)
    if request.method == "GET":
        return _entry_panel(request, who, entry)
    reason = acting.reason_of(request.POST)
    if len(reason) < 10:
        return _entry_refused(request, who, entry, acting.SHORT, 400)
    at = timezone.now()

    def act() -> dict[str, Any]:
        done = undoing.take_back(undoing.plan_of([entry]), reason, actor_of(request), at)
        if not done or done[0]["outcome"] == "kept":
            raise _Kept(done[0]["why"] if done else "This entry is no change.")
        return done[0]

    try:
        done = acting.once(request, who, at, act)
    except _Kept as error:
        return _entry_refused(request, who, entry, f"Entry {seq} stays: {error}", 409)
    except acting.REFUSALS as error:
        return _entry_refused(request, who, entry, acting.sentence(error), 409)
    caught_up_bundle()
    return changed(request, _said(done, f"Entry {seq} is taken back."))


class _Kept(Exception):
    """It was not taken back; the message says why."""


def _said(done: dict[str, Any], text: str) -> Toast:
    if done["outcome"] == "waits":
        waits = f"change request {done['change_request']} waits for somebody else's approval."
        return Toast(f"Nothing is changed yet: {waits}", "warning")
    return Toast("It is as it was already." if done["outcome"] == "unchanged" else text)


def _entry_panel(
    request: HttpRequest, who: Caller, entry: AuditEntry, error: str = "", status: int = 200
) -> HttpResponse:
    plan = undoing.plan_of([entry])
    context = {
        "entry": entry,
        "steps": [_shown(step, who) for step in plan.steps],
        "key": acting.key_of(request.POST),
        "reason": acting.reason_of(request.POST),
        "error": error,
    }
    return render(request, who, "center/undo_entry.html", context, status)


def _entry_refused(
    request: HttpRequest, who: Caller, entry: AuditEntry, error: str, status: int
) -> HttpResponse:
    if request.POST.get("toast"):
        return only_toast(request, Toast(error, "error"), status)
    return _entry_panel(request, who, entry, error, status)


def _shown(step: Step, who: Caller) -> dict[str, Any]:
    return {"step": step, "difference": difference(step.now, step.to, who.tenants)}


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose changes since when (UTC); ``texts`` as they were typed."""

    actor: str
    since: datetime | None
    until: datetime | None
    texts: dict[str, str]
    errors: dict[str, str]


def _read(query: Any) -> Asked:
    texts = {name: query.get(name, "").strip()[:160] for name in ("actor", "since", "until")}
    times: dict[str, datetime | None] = {"since": None, "until": None}
    errors = {}
    for name in times:
        try:
            times[name] = auditing.moment(texts[name])
        except ValueError as error:
            errors[name] = str(error)
    if texts["actor"] and not texts["since"]:
        errors["since"] = "Say since when: nobody takes back all that somebody ever did."
    return Asked(texts["actor"], times["since"], times["until"], texts, errors)


@require_http_methods(["GET", "POST"])
@page
def undo_actor(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: the plan. POST: do just that plan."""
    if not may_undo_any(who):
        raise PermissionDenied("This takes a right to change something.")
    asked = _read(request.POST if request.method == "POST" else request.GET)
    plan, errors = None, dict(asked.errors)
    if asked.actor and asked.since and not errors:
        try:
            plan = _plan(who, asked)
        except undoing.TooMany as error:
            errors["since"] = str(error)
    context = _context(who, asked, plan, errors)
    if request.method == "GET" or plan is None:
        return render(request, who, "center/undo_actor.html", context, status=400 if errors else 200)
    return _take_back(request, who, asked, context)


def _plan(who: Caller, asked: Asked) -> Plan:
    """Of what one may see at all; what one may not change stays, and says so."""
    assert asked.since is not None  # noqa: S101  # asked before
    entries = undoing.by_actor(asked.actor, asked.since, asked.until)
    seqs = [entry.seq for entry in entries]
    visible = set(selectors.audit_entries(who.tenants).filter(seq__in=seqs).values_list("seq", flat=True))
    made = undoing.plan_of([entry for entry in entries if entry.seq in visible])
    return undoing.with_problems(made, lambda step: missing(who, step.object_type, step.tenant))


def _context(who: Caller, asked: Asked, plan: Plan | None, errors: dict[str, str]) -> dict[str, Any]:
    steps = plan.steps if plan else ()
    return {
        "title": "Undo everything by an actor",
        "asked": asked,
        "errors": errors,
        "plan": plan,
        "steps": [_shown(step, who) for step in steps[:_SHOWN]],
        "more": max(0, len(steps) - _SHOWN),
        "will": sum(step.problem is None for step in steps),
        "stays": sum(step.problem is not None for step in steps),
        "key": acting.key_of({}),
    }


def _take_back(request: HttpRequest, who: Caller, asked: Asked, context: dict[str, Any]) -> HttpResponse:
    reason, confirm = acting.reason_of(request.POST), request.POST.get("confirm", "").strip()
    errors = {}
    if len(reason) < 10:
        errors["reason"] = acting.SHORT
    if confirm != asked.actor:
        errors["confirm"] = f"Type {asked.actor} to confirm it."
    again = {**context, "errors": errors, "reason": reason, "confirm": confirm}
    if errors:
        return render(request, who, "center/undo_actor.html", again, status=400)
    seen, at = request.POST.get("plan_hash", ""), timezone.now()

    def act() -> dict[str, Any]:
        made = _plan(who, asked)
        if made.plan_hash != seen:
            raise _Kept("Something changed since this plan was made: look again.")
        return {"results": undoing.take_back(made, reason, actor_of(request), at)}

    try:
        done = acting.once(request, who, at, act)
    except (_Kept, *acting.REFUSALS) as error:
        again["errors"] = {"plan": acting.sentence(error)}
        return render(request, who, "center/undo_actor.html", again, status=409)
    caught_up_bundle()
    results = done["results"]
    context = {
        "title": "Undo everything by an actor",
        "asked": asked,
        "results": results,
        "undone": sum(one["outcome"] == "undone" for one in results),
    }
    return render(request, who, "center/undo_done.html", context)
