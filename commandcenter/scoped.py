"""What belongs to one scope: its last decisions, the overrides that stand for it, and what was done to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson
from django.db.models import Q

from catalog.access import Caller
from catalog.tenancy import within
from commandcenter.cards import Card
from overrides import selectors
from overrides.models import AuditEntry, Override
from routing.decision import Reason
from routing.models import Selection

_DECISIONS = 10
_WAITING = 20_000
_OVERRIDES = 50
_ENTRIES = 15


@dataclass(frozen=True, slots=True)
class Made:
    """A decision that was made, and in a sentence why."""

    row: Selection
    explanation: str


def last_decisions(who: Caller, tenant: str, persona: str) -> list[Made]:
    """The newest of the scope. Two queries: published ones by their index, and of those that still wait to be published
    (seconds, unless ClickHouse is away) the newest 20,000."""
    mine = within(Selection.objects.filter(tenant=tenant, persona=persona), who.tenants)
    published = mine.filter(in_clickhouse=True).order_by("-decided_at", "-id")
    waiting = Selection.objects.filter(in_clickhouse=False).order_by("-id")[:_WAITING]
    fresh = mine.filter(pk__in=waiting.values("pk")).order_by("-decided_at", "-id")
    rows = [*published[:_DECISIONS], *fresh[:_DECISIONS]]
    rows.sort(key=lambda row: (row.decided_at, row.pk), reverse=True)
    # One that is published between the two queries comes twice.
    newest = list({row.pk: row for row in rows}.values())[:_DECISIONS]
    return [Made(row, orjson.loads(row.core)["explanation"]) for row in newest]


@dataclass(frozen=True, slots=True)
class Regret:
    """What an override has cost or saved, as last measured. ``usd`` (Decimal, positive has cost) is None while that is
    unknown. ``here``: in this scope alone."""

    verdict: str
    usd: Decimal | None
    size: Decimal | None
    n: int | None
    here: bool
    problem: str | None
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class Stands:
    """An override that touches the scope. ``effect``: what it does here now; ``decides``: it is what decides."""

    row: Override
    effect: str
    decides: bool
    regret: Regret | None


def standing(who: Caller, card: Card, now: datetime) -> tuple[list[Stands], int]:
    """The overrides that stand for the card's scope, the newest first, and how many more there are. Two queries."""
    rows = (
        selectors.standing(now, who.tenants)
        .select_related("meter")
        .filter(Q(tenant=None) | Q(tenant__slug=card.tenant), Q(persona=None) | Q(persona__slug=card.persona))
        .order_by("-id")
    )
    shown = list(rows[: _OVERRIDES + 1])
    more = rows.count() - _OVERRIDES if len(shown) > _OVERRIDES else 0
    return [
        Stands(row, _effect(row, card), row.pk == card.override, _regret(row, card, who))
        for row in shown[:_OVERRIDES]
    ], more


def _effect(row: Override, card: Card) -> str:
    if row.pk == card.override:
        return "decides now"
    if row.task is not None:
        return f"for task {row.task} only"
    if row.kind == Override.Kind.EXCLUDE:
        return f"keeps {row.profile.slug} out"
    if card.problem is not None:
        return "nobody is given now: the card says why"
    if card.reason == Reason.KILL_SWITCH.value:
        return "no effect now: the kill switch is on"
    if row.kind == Override.Kind.PREFER and card.override is None:
        return "no effect now: its profile may not be used, or misses the SLA"
    return "no effect now: something stronger decides"


def _regret(row: Override, card: Card, who: Caller) -> Regret | None:
    meter = getattr(row, "meter", None)
    if meter is None:
        return None
    figures: Mapping[str, Any] = meter.figures
    told, here = figures, True
    if row.tenant is None or row.persona is None:
        own = _of_scope(figures, row, card)
        if own is None and who.tenants is not None:
            # The sum is over tenants that this caller may not see.
            return None
        told, here = (figures, False) if own is None else (own, True)
    usd = told.get("regret_usd")
    amount = None if usd is None else Decimal(usd)
    given: Mapping[str, Any] = told.get("given", told)
    return Regret(
        verdict=told["verdict"],
        usd=amount,
        size=None if amount is None else abs(amount),
        n=given.get("n"),
        here=here,
        problem=figures.get("problem"),
        measured_at=meter.measured_at,
    )


def _of_scope(figures: Mapping[str, Any], row: Override, card: Card) -> Mapping[str, Any] | None:
    wanted = (card.tenant, card.persona, row.task)
    scopes = figures.get("scopes", ())
    return next((one for one in scopes if (one["tenant"], one["persona"], one["task"]) == wanted), None)


def activity(who: Caller, tenant: str, persona: str) -> Sequence[AuditEntry]:
    """The newest entries of the audit log about the tenant, and of those about all tenants what touches the scope. Two
    queries, so that each goes by its index."""
    entries = selectors.audit_entries(who.tenants)
    own = list(entries.filter(tenant=tenant)[:_ENTRIES])
    override = Q(object_type="override") & (Q(after__persona=None) | Q(after__persona=persona))
    touching = override | Q(object_type="kill_switch") | Q(object_type="persona", after__slug=persona)
    shared = list(entries.filter(touching, tenant=None)[:_ENTRIES])
    return sorted([*own, *shared], key=lambda entry: -entry.seq)[:_ENTRIES]
