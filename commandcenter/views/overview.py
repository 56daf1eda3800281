"""The overview: a card per scope."""

from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from catalog.access import Caller
from commandcenter.activity import recent
from commandcenter.cards import SORTS, Card, Wanted, cards_of, chosen
from commandcenter.shell import conditional, is_fragment, page, render
from commandcenter.trends import trends_of
from routing.bundle import current_bundle
from routing.decision import Reason

PER_PAGE = 24
SLAS = ("misses", "unproven", "meets", "unknown")


def wanted_of(query: Any) -> Wanted:
    """What the query string asks for; what it does not know is left out."""
    sort = query.get("sort", "")
    return Wanted(
        q=query.get("q", "")[:200],
        tenant=query.get("tenant", "")[:63],
        persona=query.get("persona", "")[:63],
        reason=query.get("reason", "")[:40],
        sla=query.get("sla", "")[:20],
        overridden=query.get("overridden", "") == "1",
        sort=sort if sort in SORTS else "attention",
    )


@page
def overview(request: HttpRequest, who: Caller) -> HttpResponse:
    """Cards of the scopes that one may see; as a fragment, the grid alone."""
    now = timezone.now()
    bundle = current_bundle()
    cards = cards_of(bundle, who.tenants, now)
    wanted = wanted_of(request.GET)
    found = chosen(cards, wanted)
    pages = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    shown = list(pages.object_list)
    trends = trends_of(shown, now)
    context = {
        "title": "Overview",
        "cards": [view_of(card, trends, who) for card in shown],
        "pages": pages,
        "trends_unknown": trends is None,
        "counts": counts_of(cards),
        "wanted": wanted,
        "may_override_any": "override" in who.verbs,
        "entries": [] if is_fragment(request) else recent(who),
        "sorts": SORTS,
        "reasons": [reason.value for reason in Reason],
        "slas": SLAS,
        "personas": sorted(bundle.personas),
        "total": len(cards),
        "nothing_scored": bundle.snapshot is None,
        "filter_query": urlencode({k: v for k, v in request.GET.items() if k not in ("page", "sort")}),
    }
    if is_fragment(request):
        answer = render(request, who, "center/_cards.html", context)
        return conditional(request, answer)
    return render(request, who, "center/overview.html", context)


def view_of(card: Card, trends: Any, who: Caller) -> dict[str, Any]:
    """A card with its trend, and whether one may override it."""
    return {
        "card": card,
        "trend": (trends or {}).get((card.tenant, card.persona)),
        "may_override": who.may("override", card.tenant),
    }


def counts_of(cards: Any) -> dict[str, int]:
    """What the line above the cards counts, of all that one may see."""
    return {
        "scopes": len(cards),
        "attention": sum(card.needs_attention for card in cards),
        "overridden": sum(card.override is not None for card in cards),
        "meets": sum(card.sla == "meets" for card in cards),
    }
