"""Profile quarantines on the telemetry page: what holds and what did, and panels to put a profile into one or release
it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from catalog.access import Caller
from catalog.models import ModelProfile
from commandcenter import acting
from commandcenter.audited import actor_of
from commandcenter.shell import conditional, page, render
from commandcenter.toasts import Toast
from commandcenter.views.flags import changed
from routing.bundle import caught_up_bundle
from routing.quarantining import services
from routing.quarantining.models import ProfileQuarantine
from routing.quarantining.services import Conflict

#: Closed ones are shown for so long.
_RECENT = timedelta(hours=24)
_MOST = 50
_NEEDED = "This takes the rights “override” and “all tenants at once”."
_REFUSALS = (*acting.REFUSALS, Conflict)


def may_not(who: Caller) -> str | None:
    """What somebody lacks to change one: profiles are everybody's. None: nothing."""
    return None if who.may("override", None) and who.may("global_scope", None) else _NEEDED


@require_GET
@page
def quarantines(request: HttpRequest, who: Caller) -> HttpResponse:
    """Those that hold, and of the last day those that did, as a fragment."""
    now = timezone.now()
    rows = ProfileQuarantine.objects.select_related("profile")
    rows = rows.filter(Q(closed_at=None) | Q(closed_at__gt=now - _RECENT))[:_MOST]
    context = {
        "rows": [_told(row, who, now) for row in rows],
        "lacking": may_not(who),
        "sentinels": settings.SENTINELS_ENABLED,
    }
    return conditional(request, render(request, who, "center/quarantines.html", context))


def _told(row: ProfileQuarantine, who: Caller, now: datetime) -> dict[str, Any]:
    told = services.describe(row, now, figures=who.tenants is None)
    over = told["state"] == ProfileQuarantine.State.CLOSED
    return {
        "row": row,
        "state": told["state"],
        "is_over": over,
        "reason": told["reason"],
        "figures": sorted((told["figures"] or {}).items()),
        "ended_at": (row.closed_at or row.expires_at) if over else None,
        "why_over": (row.close_reason or "It expired.") if over else "",
    }


@require_http_methods(["GET", "POST"])
@page
def put(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: a panel to put a profile into quarantine by hand. POST: do it."""
    if lacking := may_not(who):
        raise PermissionDenied(lacking)
    slugs = list(ModelProfile.objects.order_by("slug").values_list("slug", flat=True))
    slug = request.POST.get("profile", "")
    panel = {"slugs": slugs, "profile": slug, "confirm": request.POST.get("confirm", "").strip()[:63]}
    if request.method == "GET":
        return _panel(request, who, panel)
    errors = {}
    if slug not in slugs:
        errors["profile"] = "Choose a profile."
    elif panel["confirm"] != slug:
        errors["confirm"] = f"It is taken from all tenants: type {slug} to confirm it."

    def act(reason: str, at: datetime) -> ProfileQuarantine:
        return services.open_by_hand(slug, reason, actor_of(request), at)

    return _apply(request, who, panel, errors, act, f"{slug} is in quarantine.")


@require_http_methods(["GET", "POST"])
@page
def release(request: HttpRequest, who: Caller, pk: int) -> HttpResponse:
    """GET: a panel to release one. POST: do it."""
    row = ProfileQuarantine.objects.select_related("profile").filter(pk=pk).first()
    if row is None:
        raise Http404("There is no such profile quarantine.")
    if lacking := may_not(who):
        raise PermissionDenied(lacking)
    panel = {"one": _told(row, who, timezone.now()), "version": row.version}
    if request.method == "GET":
        return _panel(request, who, panel)
    seen = request.POST.get("version", "")
    version = int(seen) if seen.isdecimal() and len(seen) < 10 else 0

    def act(reason: str, at: datetime) -> ProfileQuarantine:
        return services.release(pk, version, reason, actor_of(request), at)

    return _apply(request, who, panel, {}, act, f"{row.profile.slug} is released.")


def _panel(
    request: HttpRequest, who: Caller, panel: dict[str, Any], errors: Any = None, status: int = 200
) -> HttpResponse:
    context = {
        **panel,
        "minutes": settings.PROFILE_QUARANTINE_EXPIRY_SECONDS // 60,
        "key": acting.key_of(request.POST),
        "reason": acting.reason_of(request.POST),
        "errors": errors or {},
    }
    return render(request, who, "center/quarantines_panel.html", context, status)


def _apply(
    request: HttpRequest,
    who: Caller,
    panel: dict[str, Any],
    errors: dict[str, str],
    act: Callable[[str, datetime], ProfileQuarantine],
    said: str,
) -> HttpResponse:
    reason, at = acting.reason_of(request.POST), timezone.now()
    if len(reason) < 10:
        errors["reason"] = acting.SHORT
    if errors:
        return _panel(request, who, panel, errors, 400)
    try:
        acting.once(request, who, at, lambda: {"id": act(reason, at).pk})
    except _REFUSALS as error:
        status = 400 if isinstance(error, ValidationError) else 409
        return _panel(request, who, panel, {"refused": acting.sentence(error)}, status)
    caught_up_bundle()
    return changed(request, Toast(said))
