"""Which standing overrides a wished or stored one shadows, and which shadow it: ``precedence.shadows``, asked of the
database, so that it takes four queries whatever the number of overrides."""

from datetime import datetime
from itertools import product
from typing import Any

from django.db.models import Q, QuerySet

from overrides import selectors
from overrides.models import Override
from overrides.precedence import EXCLUDE, LOCK, PREFER, Claim, Hypothetical, level

#: Ids named at most; the counts are of all.
MOST = 50


def shadowing(candidate: Claim, now: datetime, tenants: frozenset[str] | None) -> dict[str, Any]:
    """JSON values: ``shadows`` and ``shadowed_by`` are ids, the newest first, at most 50 of those that a caller of
    these tenants (None: all) may see; ``shadows_count`` and ``shadowed_by_count`` count all of them.

    Each is meant where the two meet, as far as these two go: a preference that something else excludes shadows
    nothing. The candidate's own row is left out.
    """
    meeting = selectors.standing(now).filter(_meets(candidate))
    if candidate.id is not None:
        meeting = meeting.exclude(pk=candidate.id)
    below, above = meeting.filter(_below(candidate)), meeting.filter(_above(candidate))
    return {
        "shadows": _named(below, tenants),
        "shadowed_by": _named(above, tenants),
        "shadows_count": below.count(),
        "shadowed_by_count": above.count(),
    }


def claim_of(override: Override) -> Hypothetical:
    """A stored override as precedence sees it; its tenant, persona and profile are read if they are not loaded."""
    return Hypothetical(
        id=override.pk,
        kind=override.kind,
        profile=override.profile.slug,
        tenant=override.tenant.slug if override.tenant else None,
        persona=override.persona.slug if override.persona else None,
        task=override.task,
        expires_at=override.expires_at,
    )


def _named(found: QuerySet[Override], tenants: frozenset[str] | None) -> list[int]:
    seen = found if tenants is None else found.filter(Q(tenant=None) | Q(tenant__slug__in=tenants))
    return list(seen.order_by("-id").values_list("pk", flat=True)[:MOST])


def _meets(candidate: Claim) -> Q:
    condition = Q()
    if candidate.tenant is not None:
        condition &= Q(tenant=None) | Q(tenant__slug=candidate.tenant)
    if candidate.persona is not None:
        condition &= Q(persona=None) | Q(persona__slug=candidate.persona)
    if candidate.task is not None:
        condition &= Q(task=None) | Q(task=candidate.task)
    return condition


def _below(candidate: Claim) -> Q:
    """Those that it shadows, of those that it meets."""
    same = Q(profile__slug=candidate.profile)
    match candidate.kind:
        case "lock":
            return (Q(kind=LOCK) & _weaker(candidate)) | Q(kind=PREFER) | (Q(kind=EXCLUDE) & same)
        case "prefer":
            return Q(kind=PREFER) & _weaker(candidate)
        case _:
            return Q(kind=PREFER) & same


def _above(candidate: Claim) -> Q:
    """Those that shadow it, of those that it meets."""
    same = Q(profile__slug=candidate.profile)
    match candidate.kind:
        case "lock":
            return Q(kind=LOCK) & ~_weaker(candidate)
        case "prefer":
            return Q(kind=LOCK) | (Q(kind=PREFER) & ~_weaker(candidate)) | (Q(kind=EXCLUDE) & same)
        case _:
            return Q(kind=LOCK) & same


def _weaker(candidate: Claim) -> Q:
    """Precedence below the candidate's: of eight shapes of scope, by which members are named, the less specific
    ones, and of its own shape the older ones."""
    own = (candidate.tenant is not None, candidate.persona is not None, candidate.task is not None)
    condition = Q(pk__in=())
    for tenant, persona, task in product((False, True), repeat=3):
        shape = Q(tenant__isnull=not tenant, persona__isnull=not persona, task__isnull=not task)
        if (level(tenant, persona), task) < (level(own[0], own[1]), own[2]):
            condition |= shape
        elif (tenant, persona, task) == own:
            condition |= shape if candidate.id is None else shape & Q(pk__lt=candidate.id)
    return condition
