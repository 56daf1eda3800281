"""One scope: its card, and the panel to override it."""

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone

from catalog.access import Caller
from commandcenter.cards import card_of
from commandcenter.shell import page, render
from commandcenter.trends import trends_of
from commandcenter.views.overview import view_of
from routing.bundle import current_bundle


@page
def scope(request: HttpRequest, who: Caller, tenant: str, persona: str) -> HttpResponse:
    """A foreign tenant's is not there."""
    bundle = current_bundle()
    if not who.may_see(tenant) or tenant not in bundle.tenants or persona not in bundle.personas:
        raise Http404("There is no such scope that you may see.")
    now = timezone.now()
    card = card_of(bundle, tenant, persona, now)
    trends = trends_of([card], now)
    context = {"title": f"{tenant} × {persona}", "one": view_of(card, trends, who)}
    return render(request, who, "center/scope.html", context)
