"""What a rollout is about: its scope's share of the flag, and the personas that are under it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from catalog.models import Persona
from overrides.flags import AUTO_MODEL_SELECTION, FlagRow
from overrides.models import Flag
from overrides.states import State
from routing.guarding.models import Rollout


def flag_row(lock: bool = False) -> Any:
    """The flag's row; locked until the transaction ends, if asked."""
    rows: Any = Flag.objects.select_for_update(of=("self",)) if lock else Flag.objects.all()
    return rows.get(name=AUTO_MODEL_SELECTION)


def own_share(flag: State, tenant: str, persona: str | None) -> Decimal | None:
    """The percentage that the flag's state (``overrides.states``) has for exactly this; None: none of its own."""
    shares = flag["tenants"] if persona is None else flag["scopes"].get(tenant, {})
    found = shares.get(tenant if persona is None else persona)
    return None if found is None else Decimal(found)


def share_now(flag: State, tenant: str, persona: str | None) -> Decimal:
    """The percentage that counts for it while the flag goes by percentages."""
    own = own_share(flag, tenant, persona)
    if own is None and persona is not None:
        own = own_share(flag, tenant, None)
    return Decimal(flag["rollout_percent"]) if own is None else own


def with_share(flag: State, tenant: str, persona: str | None, percent: Decimal) -> dict[str, Any]:
    """The members of the flag's state that change when this gets a percentage of its own."""
    value = format(percent.normalize(), "f")
    if persona is None:
        return {"tenants": {**flag["tenants"], tenant: value}}
    shares = {**flag["scopes"].get(tenant, {}), persona: value}
    return {"scopes": {**flag["scopes"], tenant: shares}}


def row_with_share(flag: FlagRow, tenant: str, persona: str | None, percent: float) -> FlagRow:
    """The same of the flag as it is read."""
    if persona is None:
        return replace(flag, tenants={**flag.tenants, tenant: percent})
    shares = {**flag.scopes.get(tenant, {}), persona: percent}
    return replace(flag, scopes={**flag.scopes, tenant: shares})


def why_not_its_own(rollout: Rollout, flag: State) -> str | None:
    """What somebody else made of the flag there; None: it is as the rollout set it."""
    tenant, persona = rollout.tenant.slug, rollout.persona.slug if rollout.persona else None
    if flag["everyone"] is not None:
        return f"The flag was set to {'on for everybody' if flag['everyone'] else 'off for everybody'}."
    share = own_share(flag, tenant, persona)
    if share == rollout.share:
        return None
    made = "taken away" if share is None else f"set to {told(share)}"
    return (
        f"The share of {rollout.scope} was {made} by hand; the rollout had set it to {told(rollout.share)}."
    )


def told(percent: Decimal) -> str:
    """A percentage for people."""
    return f"{float(percent):g}%"


def governed(rollout: Rollout, flag: State) -> list[Persona]:
    """The personas whose conversations it decides about: the named one, or all of the tenant's but those with a share
    of their own."""
    if rollout.persona is not None:
        return [rollout.persona]
    apart = flag["scopes"].get(rollout.tenant.slug, {})
    return list(Persona.objects.filter(enabled=True).exclude(slug__in=apart).order_by("slug"))
