"""Flags and rollout, and the kill switch: as they are, and panels to change them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Paginator
from django.db import IntegrityError
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from catalog.access import Caller
from catalog.models import Tenant
from catalog.tenancy import within
from commandcenter import acting, switching
from commandcenter.audited import actor_of
from commandcenter.diffs import difference
from commandcenter.shell import conditional, flag_sentence, is_fragment, page, render
from commandcenter.switching import Asked, Standing, may_not, standing
from commandcenter.toasts import Toast, with_toast
from overrides import approvals, changes, selectors
from overrides.api.base import waits
from overrides.changes import Change
from overrides.models import KillSwitch
from overrides.previewing import preview
from overrides.proposing import proposal_of
from routing.bundle import caught_up_bundle, current_bundle
from routing.engine import Bundle
from routing.guarding.models import Rollout

PER_PAGE = 25
_SWITCHES = 20
SHOWS = {"": "all tenants", "own": "with a share of their own", "killed": "with the kill switch on"}


@dataclass(frozen=True, slots=True)
class Row:
    """A tenant: its own share of the flag in percent (None: it has none), those of its personas that have one, whether
    those of its rollouts that are under way, whether it is stopped, what one lacks."""

    tenant: str
    share: float | None
    scopes: list[tuple[str, float]]
    rollouts: list[Rollout]
    killed: bool
    may_not_share: str | None
    may_not_kill: str | None


@require_GET
@page
def flags(request: HttpRequest, who: Caller) -> HttpResponse:
    """What decides in this process now: flag, shares, kill switches."""
    bundle, asked = current_bundle(), request.GET
    show = asked.get("show", "")
    wanted = {"q": asked.get("q", "").strip()[:63], "show": show if show in SHOWS else ""}
    pages = Paginator(_tenants(bundle, who, **wanted), PER_PAGE).get_page(asked.get("page"))
    killed = sorted(filter(who.may_see, bundle.standing.killed))
    switches = _switches(who, killed[:_SWITCHES])
    under_way = _rollouts(pages.object_list)
    context = {
        "title": "Flags and rollout",
        "flag": bundle.flag,
        "flag_sentence": flag_sentence(bundle.flag),
        "may_not_flag": may_not(who, "flag", None),
        "may_not_kill": may_not(who, "kill", None),
        "killed_all": bundle.standing.killed_all,
        "switch_all": switches.get(None),
        "switches": [(slug, switches.get(slug), may_not(who, "kill", slug)) for slug in killed[:_SWITCHES]],
        "more_killed": max(0, len(killed) - _SWITCHES),
        "last": selectors.audit_entries(who.tenants).filter(object_type="flag").first(),
        "rows": [_row(bundle, who, slug, under_way.get(slug, [])) for slug in pages.object_list],
        "pages": pages,
        "wanted": wanted,
        "shows": SHOWS,
    }
    if is_fragment(request):
        return conditional(request, render(request, who, "center/flags_body.html", context))
    return render(request, who, "center/flags.html", context)


def _tenants(bundle: Bundle, who: Caller, q: str, show: str) -> list[str]:
    shares, killed = {*bundle.flag.tenants, *bundle.flag.scopes}, bundle.standing.killed
    seen = [slug for slug in bundle.tenants if who.may_see(slug) and q.lower() in slug]
    if show:
        seen = [slug for slug in seen if slug in (shares if show == "own" else killed)]
    return sorted(seen)


def _rollouts(tenants: Iterable[str]) -> dict[str, list[Rollout]]:
    """Those that are under way, by tenant."""
    found: dict[str, list[Rollout]] = {}
    rows = Rollout.objects.filter(tenant__slug__in=list(tenants), state__in=Rollout.UNFINISHED)
    for row in rows.select_related("tenant", "persona"):
        found.setdefault(row.tenant.slug, []).append(row)
    return found


def _row(bundle: Bundle, who: Caller, slug: str, rollouts: list[Rollout]) -> Row:
    share = bundle.flag.tenants.get(slug)
    killed = slug in bundle.standing.killed
    scopes = sorted(bundle.flag.scopes.get(slug, {}).items())
    return Row(slug, share, scopes, rollouts, killed, may_not(who, "share", slug), may_not(who, "kill", slug))


def _switches(who: Caller, tenants: list[str]) -> dict[str | None, KillSwitch]:
    """By whom, when and why: of everybody's, and of these."""
    rows = within(KillSwitch.objects.select_related("tenant"), who.tenants)
    found = rows.filter(Q(tenant=None) | Q(tenant__slug__in=tenants))
    return {row.tenant.slug if row.tenant else None: row for row in found}


@page
def panel(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: a panel to change one of them. POST: change it."""
    what, tenant = _about(request, who)
    if lacking := may_not(who, what, tenant):
        raise PermissionDenied(lacking)
    now = standing(what, tenant)
    if request.method == "POST":
        return _apply(request, who, switching.read(request.POST, now))
    return _panel(request, who, switching.read(request.GET, now), now)


@require_GET
@page
def panel_preview(request: HttpRequest, who: Caller) -> HttpResponse:
    """What the choice would do."""
    what, tenant = _about(request, who)
    if lacking := may_not(who, what, tenant):
        raise PermissionDenied(lacking)
    now = standing(what, tenant)
    asked = switching.read(request.GET, now)
    context = {"asked": asked, "told": _previewed(request, who, asked, now)}
    return render(request, who, "center/flags_preview.html", context)


def _about(request: HttpRequest, who: Caller) -> tuple[str, str | None]:
    """What a panel is about; a foreign tenant is not there."""
    fields = request.POST if request.method == "POST" else request.GET
    what, tenant = fields.get("what", ""), fields.get("tenant", "") or None
    if what not in switching.WHATS or (what == "flag" and tenant) or (what == "share" and not tenant):
        raise BadRequest("what: flag, share or kill; a share and a tenant's kill switch name a tenant.")
    if tenant and not (who.may_see(tenant) and Tenant.objects.filter(slug=tenant).exists()):
        raise Http404("There is no such tenant that you may see.")
    return what, tenant


def _previewed(request: HttpRequest, who: Caller, asked: Asked, now: Standing) -> dict[str, Any]:
    """What it would do, whether it waits, and whether it wants its name typed; ``problem`` when it is refused."""
    at = timezone.now()
    # A reason that is not typed yet is no reason not to look.
    reasoned = replace(asked, reason=asked.reason if len(asked.reason) >= 10 else "a preview of it")
    try:
        change = switching.change_of(reasoned, now)
        about = changes.touched(change)
        after = changes.rehearse(change, actor_of(request), at)
        told = preview(proposal_of(change, after), who.tenants, at)
    except ValueError as error:
        return {"problem": str(error)}
    except acting.REFUSALS as error:
        return {"problem": acting.sentence(error)}
    return {**told, "broad": asked.is_broad(told), "waits": waits(change, about), "first": told["scopes"][:5]}


def _panel(
    request: HttpRequest, who: Caller, asked: Asked, now: Standing, theirs: Any = None, status: int = 200
) -> HttpResponse:
    context = {
        "asked": asked,
        "now": now,
        "modes": switching.MODES,
        "told": _previewed(request, who, asked, now),
        "theirs": theirs,
    }
    return render(request, who, "center/flags_panel.html", context, status)


class _Meanwhile(Exception):
    """It is not what the panel was shown for any more."""


def _apply(request: HttpRequest, who: Caller, asked: Asked) -> HttpResponse:
    now, at, actor = standing(asked.what, asked.tenant), timezone.now(), actor_of(request)
    errors = switching.complaints(asked, _previewed(request, who, asked, now))
    if errors:
        return _panel(request, who, replace(asked, errors=errors), now, status=400)

    def act() -> dict[str, Any]:
        # Asked inside, so that a repeat of what was done gets its answer, and no conflict with itself.
        locked = standing(asked.what, asked.tenant, lock=True)
        if locked.tag != asked.seen:
            raise _Meanwhile
        change = switching.change_of(asked, locked)
        return acting.answer_of(approvals.submit(change, actor, at), change, actor, at)

    try:
        done = acting.once(request, who, at, act)
    except (_Meanwhile, IntegrityError):  # two made the first switch of a tenant at once
        now = standing(asked.what, asked.tenant)
        return _panel(request, who, asked, now, _theirs(who, asked, now), status=409)
    except acting.REFUSALS as error:
        refused = replace(asked, errors={"percent": acting.sentence(error)})
        return _panel(request, who, refused, now, status=400)
    caught_up_bundle()
    return changed(request, acting.toast_of(done, switching.words(asked)))


def _theirs(who: Caller, asked: Asked, now: Standing) -> dict[str, Any]:
    """What somebody else did to it, as far as one may see who."""
    about = selectors.audit_entries(who.tenants).filter(object_type=asked.kind)
    entry = about.filter(object_id=now.target).first()
    return {"entry": entry, "now": difference(None, now.state), "yours": difference(None, _yours(asked, now))}


def _yours(asked: Asked, now: Standing) -> Any:
    wanted: Change = switching.change_of(asked, now)
    if asked.what == "kill":
        return {"on": asked.on}
    return {"share": asked.percent} if asked.what == "share" else wanted.wanted["set"]


def changed(request: HttpRequest, toast: Toast) -> HttpResponse:
    """An answer that closes the panel, has the page's lists asked again, and says what was done."""
    answer = HttpResponse(b"")
    answer["HX-Trigger-After-Settle"] = "governed-changed, state-changed"
    return with_toast(request, answer, toast)
