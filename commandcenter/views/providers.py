"""What breaks if a provider dies: by provider, and scope by scope for the one that is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from catalog.access import Caller
from commandcenter.providers import Loss, losses_of, profiles_of
from commandcenter.shell import conditional, is_fragment, page, render
from routing.bundle import current_bundle
from routing.comparing import Key
from routing.traffic import Traffic, read_traffic

PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider's line. ``broken``: its scopes without a passing alternative; conversations are per hour."""

    name: str
    profiles: Sequence[str]
    scopes: int
    broken: int
    nobody: int
    conversations: float
    conversations_broken: float


@require_GET
@page
def providers(request: HttpRequest, who: Caller) -> HttpResponse:
    """The provider of the address, else the one with most to lose. As a fragment, without the page around it."""
    now, bundle = timezone.now(), current_bundle()
    losses = losses_of(bundle, who.tenants, now)
    traffic = read_traffic(now, who.tenants)
    names = profiles_of(bundle)
    lines = [_line(name, names[name], losses[name], traffic) for name in names]
    lines.sort(key=lambda line: (-line.broken, -line.conversations, line.name))
    wanted = request.GET.get("provider", "")
    chosen = next((line for line in lines if line.name == wanted), lines[0] if lines else None)
    found = _ordered(losses[chosen.name], traffic) if chosen else []
    pages = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "title": "Providers",
        "lines": lines,
        "chosen": chosen,
        "pages": pages,
        "losses": [(loss, _per_hour(loss, traffic)) for loss in pages.object_list],
        "nothing_scored": bundle.snapshot is None,
        "quarantined": dict(bundle.standing.circuits.bars(now).all),
    }
    if is_fragment(request):
        return conditional(request, render(request, who, "center/providers_list.html", context))
    return render(request, who, "center/providers.html", context)


def _line(name: str, profiles: Sequence[str], losses: Sequence[Loss], traffic: Traffic) -> Provider:
    broken = [loss for loss in losses if not loss.passes]
    return Provider(
        name=name,
        profiles=profiles,
        scopes=len(losses),
        broken=len(broken),
        nobody=sum(loss.instead is None for loss in losses),
        conversations=sum(_per_hour(loss, traffic) for loss in losses),
        conversations_broken=sum(_per_hour(loss, traffic) for loss in broken),
    )


def _ordered(losses: Sequence[Loss], traffic: Traffic) -> list[Loss]:
    """Those without a passing alternative first, of these the ones with most traffic."""
    return sorted(losses, key=lambda loss: (loss.order, -_per_hour(loss, traffic), *_name(loss)))


def _name(loss: Loss) -> tuple[Any, ...]:
    return loss.card.tenant, loss.card.persona


def _per_hour(loss: Loss, traffic: Traffic) -> float:
    return traffic.per_hour(Key(loss.card.tenant, loss.card.persona, None))
