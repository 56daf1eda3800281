"""Overrides of many scopes at once, made or ended: previewed as a whole, done one by one, each with its entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from catalog.access import Caller
from commandcenter.audited import actor_of
from commandcenter.cards import Card, cards_of, chosen
from commandcenter.overriding import EXPIRIES, Chosen, read
from commandcenter.shell import page, render
from commandcenter.views.overview import wanted_of
from overrides import approvals, idempotency, selectors
from overrides.changes import Change
from overrides.models import Override
from overrides.precedence import Hypothetical
from overrides.previewing import Proposal, preview
from overrides.services import Conflict, NotStanding
from routing.bundle import current_bundle

#: So many scopes at once: more are filtered first.
MOST = 500


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one scope, or of one override."""

    name: str
    outcome: str
    detail: str = ""


@page
def bulk(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: the scopes chosen, the form, the preview. POST: do it."""
    if "override" not in who.verbs:
        raise PermissionDenied("This takes the role operator.")
    fields = request.POST if request.method == "POST" else request.GET
    cards = _selected(request, fields, who)
    asked = read(fields, "", "")
    ends = fields.get("what") == "revoke"
    confirm = f"{len(cards)} scopes"
    context = {
        "title": "Many scopes at once",
        "cards": cards[:MOST],
        "too_many": len(cards) > MOST,
        "most": MOST,
        "chosen": asked,
        "ends": ends,
        "kinds": Override.Kind.choices,
        "expiries": [(value, label) for value, (_, label) in EXPIRIES.items() if value != "never"],
        "profiles": [
            slug for slug in current_bundle().profiles if current_bundle().why_unusable(slug) is None
        ],
        "confirm": confirm,
    }
    if len(cards) > MOST or not cards:
        return render(request, who, "center/bulk.html", context)
    if ends or asked.profile:
        context["told"] = _preview(cards, asked, ends, who)
    if request.method != "POST" or fields.get("preview") == "1":
        return render(request, who, "center/bulk.html", context)
    errors = _complaints(asked, ends, confirm)
    if errors:
        return render(request, who, "center/bulk.html", {**context, "errors": errors}, status=400)
    key = idempotency.fingerprint("bulk", asked.key)[:40]

    def act() -> idempotency.Answer:
        rows = _end_all(request, cards, asked.reason) if ends else _override_all(request, cards, asked)
        return 200, {"rows": [[row.name, row.outcome, row.detail] for row in rows]}

    _, done = idempotency.once(who.name, key, key, timezone.now(), act)
    rows = [Row(*row) for row in done["rows"]]
    return render(request, who, "center/bulk_done.html", {"title": "Many scopes at once", "rows": rows})


def _selected(request: HttpRequest, fields: Any, who: Caller) -> list[Card]:
    """The scopes that were ticked, or (``all=1``) all that match the filter; of them those that one may override."""
    cards = cards_of(current_bundle(), who.tenants, timezone.now())
    if fields.get("all") == "1":
        found: Sequence[Card] = chosen(cards, wanted_of(fields))
    else:
        ticked = set(fields.getlist("scope")[: MOST + 1])
        found = [card for card in cards if f"{card.tenant}|{card.persona}" in ticked]
    return [card for card in found if who.may("override", card.tenant)]


def _standing(cards: Sequence[Card]) -> list[Override]:
    """The overrides that stand for just these scopes: wider ones are ended where they were made."""
    scopes = {(card.tenant, card.persona) for card in cards}
    rows = selectors.standing(timezone.now()).filter(
        tenant__slug__in={tenant for tenant, _ in scopes},
        persona__slug__in={persona for _, persona in scopes},
    )
    return [
        row for row in rows if row.tenant and row.persona and (row.tenant.slug, row.persona.slug) in scopes
    ]


def _preview(cards: Sequence[Card], asked: Chosen, ends: bool, who: Caller) -> dict[str, Any]:
    now = timezone.now()
    if ends:
        return preview(Proposal(remove=frozenset(row.pk for row in _standing(cards))), who.tenants, now)
    length = EXPIRIES[asked.expires][0]
    ending = now + length if length else None
    task = asked.task or None
    add = (Hypothetical(None, asked.kind, asked.profile, c.tenant, c.persona, task, ending) for c in cards)
    try:
        return preview(Proposal(add=tuple(add)), who.tenants, now)
    except (ValidationError, ValueError) as error:
        return {"problem": str(error)}


def _complaints(asked: Chosen, ends: bool, confirm: str) -> dict[str, str]:
    found = {}
    if not ends and not asked.profile:
        found["profile"] = "Pick the profile that it is about."
    if len(asked.reason) < 10:
        found["reason"] = "Say why, in 10 characters or more: others will ask."
    if asked.confirm != confirm:
        found["confirm"] = f"Type “{confirm}” to confirm it."
    return found


def _override_all(request: HttpRequest, cards: Sequence[Card], asked: Chosen) -> list[Row]:
    return [
        _one(request, f"{card.tenant} × {card.persona}", _for(asked, card).change(timezone.now()))
        for card in cards
    ]


def _for(asked: Chosen, card: Card) -> Chosen:
    fields = {name: getattr(asked, name) for name in Chosen.__slots__}
    return Chosen(**{**fields, "tenant": card.tenant, "persona": card.persona, "width": "scope"})


def _end_all(request: HttpRequest, cards: Sequence[Card], reason: str) -> list[Row]:
    return [
        _one(
            request,
            f"override #{row.pk}: {row.kind} {row.profile} for {row.tenant} × {row.persona}",
            Change("override.revoke", str(row.pk), {"version": row.version}, reason),
        )
        for row in _standing(cards)
    ]


def _one(request: HttpRequest, name: str, change: Change) -> Row:
    """One of many: what one is refused stops no other."""
    try:
        outcome = approvals.submit(change, actor_of(request), timezone.now())
    except ValidationError as error:
        return Row(name, "refused", " ".join(error.messages))
    except (Conflict, NotStanding) as error:
        return Row(name, "refused", str(error))
    if outcome.request is not None:
        return Row(name, "waits", f"change request {outcome.request.pk} waits for somebody else's approval")
    return Row(name, "done", f"override #{(outcome.after or {})['id']}")
