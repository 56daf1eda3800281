"""Every write of personas, flags and whatever else is described by states: versioned by what was seen, audited in
the same transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import models, transaction

from catalog.models import Persona, ScopeDefault, Tenant
from overrides import audit, four_eyes
from overrides.audit import Actor
from overrides.models import AuditEntry, Flag, FlagScope, FlagTenant
from overrides.services import check_reason
from overrides.states import (
    State,
    describe,
    find,
    object_id,
    object_type,
    set_state,
    stored,
    tag_of,
    tenant_of,
)


class Changed(Exception):
    """It is not what the caller saw any more; ``current`` is what it is now."""

    def __init__(self, current: State) -> None:
        super().__init__("It was changed since you saw it.")
        self.current = current


class Missing(Exception):
    """It is not there (any more)."""


def change_settings(
    kind: str,
    key: str,
    wanted: Mapping[str, Any],
    reason: str,
    actor: Actor,
    now: datetime,
    *,
    seen: str | None = None,
    verb: AuditEntry.Verb = AuditEntry.Verb.UPDATE,
) -> State:
    """Set the members of a row that ``wanted`` names; returns its state afterwards. ``seen``: its tag as the caller
    saw it. Setting what is set already changes nothing. Raises ValidationError, Changed, Missing, NeedsApproval."""
    check_reason(reason)
    with transaction.atomic():
        row = find(kind, key, lock=True)
        if row is None:
            raise Missing(f"There is no {kind} {key}.")
        before = describe(row)
        if seen is not None and tag_of(before) != seen:
            raise Changed(before)
        # Asked before the change, which may be the one that lifts the protection.
        whose = four_eyes.protected(scopes_of(row, wanted))
        set_state(row, wanted)
        after = stored(row)
        if after == before:
            return before
        if whose is not None and actor.change_request is None:
            raise four_eyes.NeedsApproval(whose)
        tell(actor, verb, row, before, after, reason.strip(), now)
        return after


def tell(
    actor: Actor,
    verb: AuditEntry.Verb,
    row: models.Model,
    before: State | None,
    after: State | None,
    reason: str,
    now: datetime,
) -> None:
    """Append a row's entry; must run in the transaction of the change."""
    audit.append(
        actor,
        verb,
        object_type(row),
        object_id(row),
        tenant=tenant_of(row),
        before=before,
        after=after,
        reason=reason[:500],
        at=now,
    )


def scopes_of(row: models.Model, wanted: Mapping[str, Any] | None = None) -> list[four_eyes.Scope]:
    """The scopes whose decisions a change of this row touches, as it is now. ``wanted``: only these members. What says
    what exists (profiles, prices) or who may do what (keys, people) is not under four eyes."""
    if isinstance(row, Tenant):
        return [(row.slug, None)]
    if isinstance(row, Persona):
        return [(None, row.slug)]
    if isinstance(row, ScopeDefault | FlagScope):
        return [(row.tenant.slug, row.persona.slug)]
    if isinstance(row, FlagTenant):
        return [(row.tenant.slug, None)]
    if isinstance(row, Flag):
        return _touched_by_flag(row, wanted)
    return []


def _touched_by_flag(flag: Any, wanted: Mapping[str, Any] | None) -> list[four_eyes.Scope]:
    if wanted is None or set(wanted) - {"tenants", "scopes"}:
        return [(None, None)]
    told = describe(flag)
    now, new = told["tenants"], wanted.get("tenants", told["tenants"])
    found: list[four_eyes.Scope] = [
        (slug, None) for slug in sorted({*now, *new}) if str(now.get(slug)) != str(new.get(slug))
    ]
    now, new = told["scopes"], wanted.get("scopes", told["scopes"])
    for tenant in sorted({*now, *new}):
        old, then = now.get(tenant, {}), new.get(tenant, {})
        changed = (slug for slug in sorted({*old, *then}) if str(old.get(slug)) != str(then.get(slug)))
        found += [(tenant, persona) for persona in changed]
    return found
