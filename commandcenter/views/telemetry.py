"""Whether telemetry can be trusted, and where it is held up."""

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from catalog.access import Caller
from commandcenter import pipeline
from commandcenter.shell import conditional, is_fragment, page, render
from commandcenter.views.quarantines import may_not
from routing.bundle import current_bundle
from telemetry.freshness import LATE, Cause
from telemetry.freshness_state import Freshness, state

PER_PAGE = 50
CAUSES = {
    Cause.CLICKHOUSE_DOWN: "ClickHouse is down: accepted events wait in the spool, and none is lost.",
    Cause.DRAIN_LATE: "Accepted events wait to be written: is the worker running?",
    Cause.ROLLUP_LATE: "Roll-ups are late: is the worker running, and does beat ask for them?",
    Cause.NO_TRAFFIC: "Nothing is held up: no completions were reported.",
}
RETENTION = {
    "completions": "raw completions",
    "rollup_5m": "roll-ups of 5 minutes",
    "rollup_1h": "roll-ups of an hour",
    "rollup_24h": "roll-ups of a day",
    "selections": "selection events",
    "arms_24h": "savings by day",
}


@require_GET
@page
def telemetry(request: HttpRequest, who: Caller) -> HttpResponse:
    """The pipeline and the scopes; as a fragment, again every few seconds."""
    now = timezone.now()
    scopes = pipeline.scopes_of(current_bundle(), who, now)
    wanted = {"state": request.GET.get("state", ""), "q": request.GET.get("q", "").strip()[:130].lower()}
    shown = [one for one in scopes if wanted["state"] in ("", one.state.value)]
    shown = [one for one in shown if wanted["q"] in f"{one.tenant} × {one.persona}"]
    context = {
        "title": "Telemetry health",
        **_overall(scopes, now),
        "counts": pipeline.counts_of(scopes),
        "pages": Paginator(shown, PER_PAGE).get_page(request.GET.get("page")),
        "wanted": wanted,
        "states": [one.value for one in (Freshness.STALE, Freshness.DEGRADED, Freshness.FRESH)] + ["blind"],
        "code": request.GET.get("code", "")[:40],
        "may_see_errors": who.tenants is None,
        "may_not_quarantine": may_not(who),
        "retention": [(RETENTION[table], days) for table, days in settings.RETENTION_DAYS.items()],
        "quarantine_keep": settings.QUARANTINE_KEEP,
        "selection_keep_days": settings.SELECTION_KEEP_DAYS,
    }
    if is_fragment(request):
        return conditional(request, render(request, who, "center/telemetry_body.html", context))
    return render(request, who, "center/telemetry.html", context)


def _overall(scopes: list[pipeline.Scope], now: Any) -> dict[str, Any]:
    """Freshness by the newest event of those scopes that one may see, and where to look first."""
    health = pipeline.read()
    newest = max((one.as_of for one in scopes if one.as_of), default=None)
    overall = state(newest, now)
    told = health.pipeline
    return {
        "health": health,
        "overall": overall.value,
        "as_of": newest,
        "cause": None if overall is Freshness.FRESH else CAUSES[told.cause(now)],
        "drain_is_late": told.oldest_waiting is not None and now - told.oldest_waiting > LATE,
        "rollup_is_late": told.oldest_dirty is not None and now - told.oldest_dirty > LATE,
    }


@require_GET
@page
def quarantine(request: HttpRequest, who: Caller) -> HttpResponse:
    """What was refused, as a fragment of its own."""
    code = request.GET.get("code", "")[:40]
    found = pipeline.quarantine_of(who, code, timezone.now())
    context = {"found": found, "code": code, "days": pipeline.COUNTED.days}
    answer = render(request, who, "center/telemetry_quarantine.html", context)
    # By what it tells and not by its words, whose "3 s ago" would close what somebody has open.
    return conditional(request, answer, code, found.counts, [one.pk for one in found.newest])
