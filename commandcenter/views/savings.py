"""What automatic selection saved, from the holdout; with what it may have done harm to beside it."""

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from catalog.access import Caller
from commandcenter import savings as shown
from commandcenter.shell import page, render
from routing.bundle import current_bundle
from routing.engine import Bundle
from routing.savings import MINIMUM
from routing.savings_report import Ledger, read_ledger
from telemetry.arm_sums import Arm
from telemetry.arms import TooManyRows
from telemetry.clickhouse import ClickHouseError, get_clickhouse

log = logging.getLogger(__name__)

PER_PAGE = 50
#: Value in the address to days up to today, and its label.
RANGES = {"7d": (7, "7 days"), "30d": (30, "30 days"), "90d": (90, "90 days"), "1y": (366, "a year")}
#: Days that are drawn; older ones are in the totals and in the CSV.
MOST_DAYS = 31
#: More would keep whoever looks waiting.
_MOST_ROWS = 20_000
_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address says. Empty: all."""

    tenant: str
    persona: str
    range: str

    def csv(self, days: tuple[date, date]) -> str:
        """Where the same is to be had by scope and day."""
        told = {"tenant": self.tenant, "persona": self.persona, "from": str(days[0]), "to": str(days[1])}
        told = {name: value for name, value in told.items() if value}
        return f"{reverse('savings')}?{urlencode({**told, 'group': 'day', 'format': 'csv'})}"


@require_GET
@page
def savings(request: HttpRequest, who: Caller) -> HttpResponse:
    """Of the tenant and persona in the address, by scope and by day."""
    bundle = current_bundle()
    asked = _asked(request, who, bundle)
    last = timezone.now().date()
    days = (last - timedelta(days=RANGES[asked.range][0] - 1), last)
    ledger, problem = _read(asked, who, days)
    context: dict[str, Any] = {
        "title": "Savings",
        "asked": asked,
        "ranges": [(value, text) for value, (_, text) in RANGES.items()],
        "label": RANGES[asked.range][1],
        "personas": sorted(bundle.personas),
        "csv": asked.csv(days),
        "minimum": MINIMUM,
        "problem": problem,
        **(_told(ledger, request.GET.get("page")) if ledger else {}),
        "next": _next_step(bundle, who) if ledger and not ledger.completions(Arm.CONTROL) else "",
    }
    return render(request, who, "center/savings.html", context)


def _asked(request: HttpRequest, who: Caller, bundle: Bundle) -> Asked:
    tenant, persona = (request.GET.get(name, "").strip()[:63] for name in ("tenant", "persona"))
    if tenant and not who.may_see(tenant):
        raise Http404("There is no such tenant that you may see.")
    if persona and persona not in bundle.personas:
        raise Http404("There is no such persona.")
    span = request.GET.get("range", "7d")
    return Asked(tenant, persona, span if span in RANGES else "7d")


def _read(asked: Asked, who: Caller, days: tuple[date, date]) -> tuple[Ledger | None, str]:
    try:
        ledger = read_ledger(
            get_clickhouse(),
            *days,
            tenants=frozenset({asked.tenant}) if asked.tenant else who.tenants,
            persona=asked.persona or None,
            most=_MOST_ROWS,
            timeout=_TIMEOUT_SECONDS,
        )
    except TooManyRows:
        return None, "That is too much for a page: choose a tenant, a persona or fewer days, or take the CSV."
    except ClickHouseError as error:
        log.warning("no savings: %s", error)
        return None, "ClickHouse cannot be asked now, so savings cannot be told. Decisions are not affected."
    return ledger, ""


def _told(ledger: Ledger, number: str | None) -> dict[str, Any]:
    total = ledger.total()
    scopes = sorted(ledger.by_scope(), key=lambda one: -one.savings.treated.completions)
    pages = Paginator(scopes, PER_PAGE).get_page(number)
    newest = ledger.by_day()[::-1]
    arms = [(arm.value, ledger.completions(arm)) for arm in Arm]
    return {
        "total": total,
        "headline": shown.headline(total),
        "verdict": shown.WORDS[total.verdict],
        # What was saved at somebody's expense is not shown as a gain.
        "tone": "warn" if total.harms else shown.TONES.get(total.verdict, ""),
        "share": shown.share_of(total),
        "harms": shown.harms_of(total),
        "length": shown.length_of(total),
        "arms": arms,
        "completions": sum(n for _, n in arms),
        "pages": pages,
        "scopes": shown.rows_of(list(pages.object_list)),
        "days": shown.rows_of(newest[:MOST_DAYS]),
        "older": max(len(newest) - MOST_DAYS, 0),
        "width": shown.WIDTH,
        "height": shown.HEIGHT,
    }


def _next_step(bundle: Bundle, who: Caller) -> str:
    """What keeps the control empty: "flag", "holdout", or only time ("wait")."""
    if not any(map(bundle.flag.is_on_somewhere, filter(who.may_see, bundle.tenants))):
        return "flag"
    if not any(persona.holdout_share > 0 for persona in bundle.personas.values()):
        return "holdout"
    return "wait"
