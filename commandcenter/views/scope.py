"""One scope: its card with the override panel, its candidates, its last decisions, charts, overrides, activity."""

from datetime import datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from catalog.access import Caller
from commandcenter import scoped
from commandcenter.candidates import candidates_of, rows_of, unscored, weights_of
from commandcenter.cards import card_of
from commandcenter.charts import DRAWN_LINES, METRICS, RANGES, read_charts
from commandcenter.rollouts import steering
from commandcenter.shell import conditional, page, render
from commandcenter.trends import trends_of
from commandcenter.views.overview import view_of
from routing.bundle import current_bundle
from routing.engine import Bundle

#: What a 304 keeps on the page tells its age; it is told anew this often.
_SECONDS = 60


def _known(who: Caller, tenant: str, persona: str) -> Bundle:
    """The bundle; a foreign tenant's scope is not there."""
    bundle = current_bundle()
    if not who.may_see(tenant) or tenant not in bundle.tenants or persona not in bundle.personas:
        raise Http404("There is no such scope that you may see.")
    return bundle


@require_GET
@page
def scope(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """The whole page; its charts, decisions, overrides and activity come by themselves, so that it waits for none."""
    bundle = _known(who, tenant, persona)
    now = timezone.now()
    card = card_of(bundle, tenant, persona, now)
    trends = trends_of([card], now)
    context = {
        "title": f"{tenant} × {persona}",
        "one": view_of(card, trends, who),
        "trends_unknown": trends is None,
        "facts": _facts(bundle, tenant, persona),
        "range": _range(request),
        **_candidates(bundle, tenant, persona, now),
    }
    return render(request, who, "center/scope.html", context)


@require_GET
@page
def candidates(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """The candidate table as a fragment, again every few seconds."""
    bundle = _known(who, tenant, persona)
    now = timezone.now()
    context = _candidates(bundle, tenant, persona, now)
    given = [row.is_given for row in context["rows"]]
    answer = render(request, who, "center/scope_candidates.html", context)
    return conditional(request, answer, bundle.version, given)


@require_GET
@page
def live(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """The last decisions, standing overrides and the activity log as a fragment, again every few seconds."""
    bundle = _known(who, tenant, persona)
    now = timezone.now()
    context = _live(who, bundle, tenant, persona, now)
    seen = (
        int(now.timestamp()) // _SECONDS,
        [made.row.pk for made in context["decisions"]],
        [(one.row.pk, one.row.version, one.effect, one.regret) for one in context["standing"]],
        [entry.seq for entry in context["entries"]],
    )
    return conditional(request, render(request, who, "center/scope_live.html", context), seen)


@require_GET
@page
def charts(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """The charts as a fragment; a sentence while ClickHouse cannot be asked."""
    bundle = _known(who, tenant, persona)
    chosen = _range(request)
    now = timezone.now()
    first = (card_of(bundle, tenant, persona, now).profile, bundle.default_profile(tenant, persona))
    found = read_charts(bundle, tenant, persona, RANGES[chosen][0], now, first)
    scores = bundle.scores(tenant, persona)
    rules = scores.rules if scores else None
    context = {
        "scope": {"tenant": tenant, "persona": persona},
        "range": chosen,
        "ranges": [(value, label) for value, (_, label) in RANGES.items()],
        "label": RANGES[chosen][1],
        "charts": found,
        "data": found.data(rules.sla if rules else None) if found else None,
        "metrics": METRICS,
        "drawn": DRAWN_LINES,
    }
    return render(request, who, "center/scope_charts.html", context)


def _range(request: HttpRequest) -> str:
    wanted = request.GET.get("range", "")
    return wanted if wanted in RANGES else "24h"


def _candidates(bundle: Bundle, tenant: str, persona: str, now: datetime) -> dict[str, Any]:
    found = candidates_of(bundle, tenant, persona, now)
    scores = bundle.scores(tenant, persona)
    given = card_of(bundle, tenant, persona, now).profile
    return {
        "scope": {"tenant": tenant, "persona": persona},
        "rows": rows_of(found, weights_of(scores), given),
        "unscored": unscored(bundle, found),
    }


def _live(who: Caller, bundle: Bundle, tenant: str, persona: str, now: datetime) -> dict[str, Any]:
    card = card_of(bundle, tenant, persona, now)
    standing, more = scoped.standing(who, card, now)
    return {
        "scope": {"tenant": tenant, "persona": persona},
        "decisions": scoped.last_decisions(who, tenant, persona),
        "standing": standing,
        "more_standing": more,
        "entries": scoped.activity(who, tenant, persona),
        "may_see_all": who.tenants is None,
    }


def _facts(bundle: Bundle, tenant: str, persona: str) -> dict[str, Any]:
    """What the scope is measured by, as its scores were made, and what else steers it."""
    scores = bundle.scores(tenant, persona)
    shares = bundle.personas[persona]
    return {
        "rules": scores.rules if scores else None,
        "as_of": scores.as_of if scores else None,
        "snapshot": bundle.snapshot,
        "default": bundle.default_profile(tenant, persona),
        "own_default": (tenant, persona) in bundle.scope_defaults,
        "flag_share": bundle.flag.share(tenant, persona),
        "rollouts": steering(tenant, persona),
        "holdout": shares.holdout_share,
        "exploration": shares.exploration_share,
        "switch_margin": shares.switch_margin,
        "bundle_version": bundle.version,
    }
