"""What one conversation was given, and why."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import orjson
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from catalog.access import Caller
from commandcenter.shell import page, render
from routing.bundle import current_bundle
from routing.models import ConversationSelection, Selection

PER_PAGE = 25


@dataclass(frozen=True, slots=True)
class Made:
    """A decision, and in a sentence why. ``switched``: it gave another profile than the one before it (None: unknown,
    the one before is not shown)."""

    row: Selection
    explanation: str
    switched: bool | None


@require_GET
@page
def conversations(request: HttpRequest, who: Caller) -> HttpResponse:
    """Looked up by its id, and its tenant; the newest selection first."""
    name, tenant = request.GET.get("id", "").strip()[:200], request.GET.get("tenant", "").strip()[:63]
    if tenant and not who.may_see(tenant):
        raise Http404("There is no such tenant that you may see.")
    page_text = request.GET.get("page", "")
    number = max(1, int(page_text)) if page_text.isdecimal() and len(page_text) < 6 else 1
    context: dict[str, Any] = {
        "title": "Conversations",
        "name": name,
        "tenant": tenant,
        "number": number,
        "keep_days": settings.SELECTION_KEEP_DAYS,
    }
    if name:
        made, more = _selections(who, name, tenant, number)
        context |= {"made": made, "more": more, "kept": _kept(who, name, tenant)}
    return render(request, who, "center/conversations.html", context)


def _tenants(who: Caller, tenant: str) -> list[str]:
    """The tenants to look at: the index begins with the tenant, so all that one may see are named."""
    return [tenant] if tenant else sorted(filter(who.may_see, current_bundle().tenants))


def _selections(who: Caller, name: str, tenant: str, number: int) -> tuple[list[Made], bool]:
    """A page of them, and whether there are more. One query."""
    found = Selection.objects.filter(tenant__in=_tenants(who, tenant), conversation_id=name)
    start = (number - 1) * PER_PAGE
    # One more than is shown: what came before the last one, and whether there is another page.
    rows = list(found.order_by("-decided_at", "-id")[start : start + PER_PAGE + 1])
    made = []
    for row, earlier in zip_longest(rows, rows[1:]):
        told = orjson.loads(row.core)["explanation"]
        same_scope = earlier is not None and (earlier.tenant, earlier.persona) == (row.tenant, row.persona)
        made.append(Made(row, told, earlier.profile != row.profile if earlier and same_scope else None))
    return made[:PER_PAGE], len(rows) > PER_PAGE


def _kept(who: Caller, name: str, tenant: str) -> list[ConversationSelection]:
    """What it is remembered with, by persona: what makes decisions sticky."""
    found = ConversationSelection.objects.filter(tenant__in=_tenants(who, tenant), conversation_id=name)
    return list(found.order_by("tenant", "persona")[:PER_PAGE])
