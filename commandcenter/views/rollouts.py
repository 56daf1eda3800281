"""Guarded rollouts: what is under way with what is proved, and panels to start one and to act on one."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from catalog.access import Caller
from catalog.models import Persona
from catalog.tenancy import within
from commandcenter import acting
from commandcenter.audited import actor_of
from commandcenter.rights import missing
from commandcenter.rollouts import HEIGHT, WIDTH, acts_of, card_of
from commandcenter.rollouts_form import START, STEERING, Asked, NotRead, complaints, is_broad, read
from commandcenter.shell import conditional, is_fragment, page, render
from commandcenter.toasts import Toast
from commandcenter.views.flags import changed
from overrides import approvals, changes, four_eyes
from overrides.audit import Actor
from overrides.flags import read_flag
from overrides.previewing import Proposal, preview
from overrides.proposing import proposal_of
from routing.bundle import caught_up_bundle
from routing.guarding import services
from routing.guarding.models import Rollout
from routing.guarding.scopes import row_with_share
from routing.guarding.services import percent_of, plan_of

PER_PAGE = 25
#: So many unfinished ones are shown with all that is proved; a filter shows others.
_CARDS = 30
_SERVICES = {
    "pause": services.pause,
    "roll-back": services.roll_back,
    "acknowledge": services.acknowledge,
    "cancel": services.cancel,
}
_WORDS = {
    START: "Rollout of {} started.",
    "pause": "Rollout of {} paused: its share stays.",
    "resume": "Rollout of {} resumed.",
    "roll-back": "Rollout of {} rolled back: the flag is off there.",
    "acknowledge": "Roll-back of {} acknowledged: it stays back.",
    "cancel": "Rollout of {} cancelled: the flag's share stays as it is.",
}


@require_GET
@page
def rollouts(request: HttpRequest, who: Caller) -> HttpResponse:
    """Unfinished ones as cards, the others as a list."""
    q = request.GET.get("q", "").strip()[:63]
    rows = within(Rollout.objects.select_related("tenant", "persona"), who.tenants)
    if q:
        rows = rows.filter(tenant__slug__contains=q.lower())
    under_way = list(rows.filter(state__in=Rollout.UNFINISHED)[: _CARDS + 1])
    pages = Paginator(rows.exclude(state__in=Rollout.UNFINISHED), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "title": "Rollouts",
        "q": q,
        "cards": [card_of(row, who) for row in under_way[:_CARDS]],
        "more": len(under_way) > _CARDS,
        "pages": pages,
        "may_not_start": _may_not_start(who),
        "width": WIDTH,
        "height": HEIGHT,
    }
    if is_fragment(request):
        return conditional(request, render(request, who, "center/rollouts_body.html", context))
    return render(request, who, "center/rollouts.html", context)


def _may_not_start(who: Caller) -> str | None:
    return None if "flags" in who.verbs else "This takes the right “flags” at a tenant."


@require_http_methods(["GET", "POST"])
@page
def start(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: a panel to start one. POST: start it."""
    if lacking := _may_not_start(who):
        raise PermissionDenied(lacking)
    asked = read(request.POST if request.method == "POST" else request.GET, START, None)
    return _answered(request, who, asked, None)


@require_http_methods(["GET", "POST"])
@page
def act(request: HttpRequest, who: Caller, pk: int, what: str) -> HttpResponse:
    """GET: a panel to pause, resume, roll back, acknowledge or cancel one. POST: do it."""
    row = _row(who, pk, what)
    asked = read(request.POST if request.method == "POST" else request.GET, what, row)
    return _answered(request, who, asked, row)


@require_GET
@page
def panel_preview(request: HttpRequest, who: Caller) -> HttpResponse:
    """What starting or resuming would do, as the fields are."""
    what, pk = request.GET.get("act", START), request.GET.get("pk", "")
    if what not in STEERING:
        raise Http404("There is no preview of that.")
    row = _row(who, int(pk), what) if pk.isdecimal() and len(pk) < 10 else None
    if row is None and (what != START or _may_not_start(who)):
        raise Http404("There is no such rollout that you may change.")
    asked = read(request.GET, what, row)
    context = {"asked": asked, "told": _previewed(request, who, asked, row)}
    return render(request, who, "center/rollouts_preview.html", context)


def _row(who: Caller, pk: int, what: str) -> Rollout:
    rows = within(Rollout.objects.select_related("tenant", "persona"), who.tenants)
    row = rows.filter(pk=pk).first()
    if row is None or what not in _WORDS or what == START:
        raise Http404("There is no such rollout that you may see.")
    if lacking := missing(who, "rollout", row.tenant.slug):
        raise PermissionDenied(lacking)
    return row


class _Wrong(Exception):
    """Nothing is done; ``errors`` by field."""

    def __init__(self, errors: dict[str, str]) -> None:
        super().__init__(errors)
        self.errors = errors


def _answered(request: HttpRequest, who: Caller, asked: Asked, row: Rollout | None) -> HttpResponse:
    if request.method == "GET":
        return _panel(request, who, asked, row)
    at, actor = timezone.now(), actor_of(request)

    def act_once() -> dict[str, Any]:
        # Asked inside, so that a repeat of what was done gets its answer, and is not told that it overlaps with itself.
        if errors := complaints(asked, _previewed(request, who, asked, row)):
            raise _Wrong(errors)
        return _done(asked, actor, at)

    try:
        done = acting.once(request, who, at, act_once)
    except _Wrong as wrong:
        return _panel(request, who, replace(asked, errors=wrong.errors), row, 400)
    except acting.REFUSALS as error:
        refused = replace(asked, errors={"fields": acting.sentence(error)})
        now = Rollout.objects.select_related("tenant", "persona").get(pk=row.pk) if row else None
        return _panel(request, who, refused, now, 409)
    caught_up_bundle()
    if "change_request" in done:
        return changed(request, acting.toast_of(done, ""))
    return changed(request, Toast(_WORDS[asked.act].format(asked.name)))


def _done(asked: Asked, actor: Actor, at: datetime) -> dict[str, Any]:
    if asked.act in _SERVICES:
        assert asked.pk is not None  # noqa: S101  # only a new one has none
        return {"rollout": _SERVICES[asked.act](asked.pk, asked.version, asked.reason, actor, at).pk}
    outcome = approvals.submit(asked.change(), actor, at)
    if outcome.request is not None:
        return {"change_request": outcome.request.pk}
    return {"rollout": (outcome.after or {})["id"]}


def _previewed(request: HttpRequest, who: Caller, asked: Asked, row: Rollout | None) -> dict[str, Any]:
    """What it would do, whether it waits, and whether it wants its name typed; ``problem`` when it is refused."""
    if row is not None and asked.act not in acts_of(row):
        return {"problem": f"It is {row.get_state_display()} now: that cannot be done."}
    if asked.act not in STEERING:
        return {}
    if asked.act == START and (not asked.tenant or (lacking := _foreign(who, asked.tenant))):
        return {"problem": lacking if asked.tenant else "Name a tenant."}
    at = timezone.now()
    # A reason that is not typed yet is no reason not to look.
    reasoned = replace(asked, reason=asked.reason if len(asked.reason) >= 10 else "a preview of it")
    try:
        proposal, percent, waits = _would(reasoned, row, actor_of(request), at)
        told = preview(proposal, who.tenants, at)
    except NotRead as error:
        return {"problem": f"{error.args[0]}: {error.args[1]}"}
    except ValueError as error:
        return {"problem": str(error)}
    except acting.REFUSALS as error:
        return {"problem": acting.sentence(error)}
    shown = {"percent": percent, "waits": waits, "first": told["scopes"][:5]}
    return {**told, **shown, "broad": is_broad(told, percent)}


def _would(asked: Asked, row: Rollout | None, actor: Actor, at: datetime) -> tuple[Proposal, float, bool]:
    """The policy afterwards, the percentage of conversations whose side changes, whether it waits for approval."""
    if asked.act == "roll-back":
        assert row is not None  # noqa: S101  # it was looked up
        tenant, persona = row.tenant.slug, row.persona.slug if row.persona else None
        return Proposal(flag=row_with_share(read_flag(), tenant, persona, 0.0)), float(row.share), False
    change = asked.change()
    about = changes.touched(change)
    after = changes.rehearse(change, actor, at)
    return proposal_of(change, after), float(after["share"]), four_eyes.protected(about.scopes) is not None


def _foreign(who: Caller, tenant: str) -> str | None:
    if not who.may_see(tenant):
        return "There is no such tenant that you may see."
    return missing(who, "rollout", tenant)


def _panel(
    request: HttpRequest, who: Caller, asked: Asked, row: Rollout | None, status: int = 200
) -> HttpResponse:
    steps = plan_of(row).steps[: row.step + 1] if row else ()
    context = {
        "asked": asked,
        "row": row,
        "personas": Persona.objects.filter(enabled=True).values_list("slug", flat=True)
        if row is None
        else (),
        "reached": [(number, f"{step:g}") for number, step in enumerate(steps, 1)],
        "share": percent_of(plan_of(row), row.step) if row else None,
        "steering": asked.act in STEERING,
        "told": _previewed(request, who, asked, row) if asked.tenant else {},
        "back": row is not None and row.state == Rollout.State.ROLLED_BACK,
    }
    return render(request, who, "center/rollouts_panel.html", context, status)
