"""Change requests: what waits for a second person, as a difference, with what one may do about it."""

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Case, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from catalog.access import Caller
from commandcenter import acting
from commandcenter.audited import actor_of
from commandcenter.diffs import difference
from commandcenter.rights import missing
from commandcenter.shell import conditional, is_fragment, page, render
from commandcenter.toasts import Toast, only_toast, with_toast
from overrides import approvals, changes, selectors
from overrides.models import ChangeRequest
from overrides.previewing import preview
from overrides.proposing import proposal_of
from overrides.states import tag_of
from routing.bundle import caught_up_bundle

PER_PAGE = 25
KINDS = ("override", "kill_switch", "flag", "persona", "tenant")
STEPS = ("approve", "apply", "reject", "renew")
_OPEN_FIRST = Case(When(state=ChangeRequest.State.OPEN, then=Value(0)), default=Value(1))


@require_GET
@page
def requests(request: HttpRequest, who: Caller) -> HttpResponse:
    """Open ones first, the newest first."""
    asked = {name: request.GET.get(name, "").strip()[:160] for name in ("state", "kind", "tenant", "by")}
    found = selectors.change_requests(who.tenants).order_by(_OPEN_FIRST, "-id")
    if asked["state"] in ChangeRequest.State.values:
        found = found.filter(state=asked["state"])
    if asked["kind"]:
        found = found.filter(kind__startswith=asked["kind"])
    if asked["tenant"]:
        found = found.filter(tenant=asked["tenant"])
    if asked["by"]:
        found = found.filter(requested_by=asked["by"])
    pages = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "title": "Change requests",
        "pages": pages,
        "rows": [(row, _approved_by(row)) for row in pages.object_list],
        "wanted": asked,
        "is_filtered": any(asked.values()),
        "states": ChangeRequest.State.values,
        "kinds": KINDS,
    }
    if is_fragment(request):
        return conditional(request, render(request, who, "center/requests_list.html", context))
    return render(request, who, "center/requests.html", context)


def _approved_by(row: ChangeRequest) -> list[str]:
    """Whose approval counts for the difference as it is now."""
    counting = [item.by for item in row.approvals.all() if item.diff_hash == row.diff_hash]
    return [name for name in counting if name not in row.authors]


@dataclass(frozen=True, slots=True)
class Steps:
    """Why one may not take each step; None: one may."""

    approve: str | None
    apply: str | None
    reject: str | None
    renew: str | None
    is_own: bool


def steps_of(who: Caller, row: ChangeRequest) -> Steps:
    """What somebody may do about a request now; the server asks this again before doing it."""
    own, counting = who.name in row.authors, _approved_by(row)
    lacking = missing(who, row.kind.partition(".")[0], row.tenant)
    may_approve = who.may("approve", row.tenant)
    takes = f"This takes the right “approve” at {row.tenant or 'all tenants'}."
    if row.state != ChangeRequest.State.OPEN:
        closed = f"It is {row.state}."
        return Steps(closed, closed, closed, closed, own)
    approve = None if may_approve else takes
    if own:
        approve = "Somebody else must approve it: you proposed or edited it."
    elif who.name in counting:
        approve = "You have approved it."
    return Steps(
        approve=approve,
        apply=lacking or (None if counting else "Nobody else has approved it as it is now."),
        reject=None if own or may_approve else takes,
        renew=lacking,
        is_own=own,
    )


@require_GET
@page
def request_page(request: HttpRequest, who: Caller, pk: int) -> HttpResponse:
    """One request; a foreign tenant's is not there."""
    row = _visible(who, pk)
    context = {"title": f"Change request {row.pk}", **_context(who, row), "key": acting.key_of({})}
    if is_fragment(request):
        return conditional(request, render(request, who, "center/requests_one_state.html", context))
    return render(request, who, "center/requests_one.html", context)


def _visible(who: Caller, pk: int) -> ChangeRequest:
    row = selectors.change_requests(who.tenants).filter(pk=pk).first()
    if row is None:
        raise Http404("There is no such change request that you may see.")
    return row


def _context(who: Caller, row: ChangeRequest) -> dict[str, Any]:
    counting = _approved_by(row)
    return {
        "row": row,
        "difference": difference(row.before, row.after, who.tenants),
        "steps": steps_of(who, row),
        "approvals": [
            (item, item.by in counting and item.diff_hash == row.diff_hash) for item in row.approvals.all()
        ],
        "is_open": row.state == ChangeRequest.State.OPEN,
    }


@require_GET
@page
def request_preview(request: HttpRequest, who: Caller, pk: int) -> HttpResponse:
    """What it would do now; asked apart from the page, because it takes longer."""
    row = _visible(who, pk)
    return render(request, who, "center/requests_preview.html", {"told": _previewed(request, who, row)})


def _previewed(request: HttpRequest, who: Caller, row: ChangeRequest) -> dict[str, Any]:
    """``problem``: why it cannot be made any more."""
    at, change = timezone.now(), approvals.change_of(row)
    try:
        after = changes.rehearse(change, actor_of(request), at)
        told = preview(proposal_of(change, after), who.tenants, at)
    except acting.REFUSALS as error:
        return {"problem": acting.sentence(error)}
    return {**told, "first": told["scopes"][:5]}


@require_POST
@page
def request_step(request: HttpRequest, who: Caller, pk: int, step: str) -> HttpResponse:
    """Approve what was shown, apply it, reject (or withdraw) it, or renew it for the object as it is now."""
    row = _visible(who, pk)
    if step not in STEPS:
        raise Http404("There is no such step.")
    lacking = _lacks(who, row, step)
    if lacking:
        raise PermissionDenied(lacking)
    reason, at = acting.reason_of(request.POST), timezone.now()
    if step != "apply" and len(reason) < 10:
        return only_toast(request, Toast(acting.SHORT, "error"), status=400)

    def act() -> dict[str, Any]:
        return {"said": _take(request, row, step, reason)}

    try:
        done = acting.once(request, who, at, act)
    except acting.REFUSALS as error:
        toast = Toast(acting.sentence(error), "error")
        return with_toast(request, _again(request, who, pk, status=409), toast)
    if step == "apply":
        caught_up_bundle()
    return with_toast(request, _again(request, who, pk), Toast(done["said"]))


def _lacks(who: Caller, row: ChangeRequest, step: str) -> str | None:
    """The right that one lacks for a step, whatever state it is in: that is told as a conflict, not as a 403."""
    if step == "approve":
        return None if who.may("approve", row.tenant) else "This takes the right “approve”."
    if step == "reject":
        may = who.name in row.authors or who.may("approve", row.tenant)
        return None if may else "Its authors withdraw it, and who may approve it rejects it."
    return missing(who, row.kind.partition(".")[0], row.tenant)


def _take(request: HttpRequest, row: ChangeRequest, step: str, reason: str) -> str:
    shown, actor, at = request.POST.get("diff_hash", ""), actor_of(request), timezone.now()
    if step == "approve":
        approvals.approve(row.pk, shown, reason, actor, at)
        return f"Change request {row.pk} is approved. It is made by Apply."
    if step == "reject":
        closed = approvals.close(row.pk, reason, actor, at)
        return f"Change request {row.pk} is {closed.state}."
    if step == "renew":
        version = request.POST.get("version", "")
        approvals.edit(row.pk, int(version) if version.isdecimal() else 0, _renewed(row), reason, actor, at)
        return (
            f"Change request {row.pk} is for the object as it is now. Approvals of what it was count no more."
        )
    if shown != row.diff_hash:
        raise approvals.Refused("diff_changed", "The change was edited since you saw it: look again.")
    approvals.apply(row.pk, actor, at)
    return f"Change request {row.pk} is applied: the change is made."


def _renewed(row: ChangeRequest) -> dict[str, Any]:
    """The same wish, of the object as it is now: its version, or its tag."""
    now = changes.touched(approvals.change_of(row)).before or {}
    wanted: dict[str, Any] = dict(row.wanted)
    if "version" in wanted:
        wanted["version"] = now["version"]
    if "seen" in wanted:
        wanted["seen"] = tag_of(now)
    return wanted


def _again(request: HttpRequest, who: Caller, pk: int, status: int = 200) -> HttpResponse:
    """The request as it is now."""
    context = {**_context(who, _visible(who, pk)), "key": acting.key_of({})}
    answer = render(request, who, "center/requests_one_state.html", context, status)
    answer["HX-Trigger-After-Settle"] = "request-changed, state-changed"
    return answer
