"""What somebody chose in an override panel: read from the form, checked, and as changes of each scope."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from catalog.access import Caller
from overrides import idempotency, selectors
from overrides.changes import Change, wish_values
from overrides.models import Override
from overrides.services import Wish

#: Value to length (None: no end) and label.
EXPIRIES: Mapping[str, tuple[timedelta | None, str]] = {
    "1h": (timedelta(hours=1), "in 1 hour"),
    "4h": (timedelta(hours=4), "in 4 hours"),
    "24h": (timedelta(hours=24), "in 24 hours"),
    "7d": (timedelta(days=7), "in 7 days"),
    "never": (None, "never, until it is revoked"),
}
WIDTHS = ("scope", "tenant", "persona", "everybody")
#: A change that touches more than this share of the traffic wants its scope's name typed.
BROAD_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Chosen:
    """The panel's fields as they came. ``seen``: the overrides that stood when the panel was shown."""

    tenant: str
    persona: str
    profile: str = ""
    kind: str = "lock"
    width: str = "scope"
    task: str = ""
    expires: str = "24h"
    reason: str = ""
    confirm: str = ""
    seen: str = ""
    key: str = ""
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> tuple[str | None, str | None]:
        """Tenant and persona that the override is for; None: all."""
        return {
            "scope": (self.tenant, self.persona),
            "tenant": (self.tenant, None),
            "persona": (None, self.persona),
            "everybody": (None, None),
        }[self.width]

    @property
    def name(self) -> str:
        """What is typed to confirm it."""
        return {
            "scope": f"{self.tenant}/{self.persona}",
            "tenant": self.tenant,
            "persona": self.persona,
            "everybody": "all tenants",
        }[self.width]

    def wish(self, now: datetime) -> Wish:
        tenant, persona = self.target
        length = EXPIRIES[self.expires][0]
        ends = now + length if length else None
        return Wish(self.kind, self.profile, self.reason, tenant, persona, self.task or None, ends)

    def change(self, now: datetime) -> Change:
        return Change("override.create", "", wish_values(self.wish(now)), self.reason)


def read(query: Any, tenant: str, persona: str) -> Chosen:
    """The fields of a form or query string; what is not known of the choices becomes the default."""

    def among(name: str, known: Any, default: str) -> str:
        value = query.get(name, "")
        return value if value in known else default

    return Chosen(
        tenant=tenant,
        persona=persona,
        profile=query.get("profile", "").strip()[:63],
        kind=among("kind", Override.Kind.values, "lock"),
        width=among("width", WIDTHS, "scope"),
        task=query.get("task", "").strip()[:63],
        expires=among("expires", EXPIRIES, "24h"),
        reason=query.get("reason", "").strip()[:500],
        confirm=query.get("confirm", "").strip()[:200],
        seen=query.get("seen", "")[:64],
        key=query.get("key", "")[:100] or uuid.uuid4().hex,
    )


def complaints(chosen: Chosen, who: Caller, broad: bool) -> dict[str, str]:
    """What is wrong with it, by field; empty: nothing."""
    found = {}
    if not chosen.profile:
        found["profile"] = "Pick the profile that it is about."
    if len(chosen.reason) < 10:
        found["reason"] = "Say why, in 10 characters or more: others will ask."
    if EXPIRIES[chosen.expires][0] is None and not who.may("no_expiry", chosen.target[0]):
        found["expires"] = "An override without an end takes the right 'no expiry'."
    if broad and chosen.confirm != chosen.name:
        found["confirm"] = f"This touches much traffic: type {chosen.name} to confirm it."
    return found


def may_apply(chosen: Chosen, who: Caller) -> bool:
    """Whether somebody may override what it is for."""
    tenant = chosen.target[0]
    if tenant is not None:
        return who.may("override", tenant)
    return who.may("override", None) and who.may("global_scope", None)


def is_broad(chosen: Chosen, preview: Mapping[str, Any]) -> bool:
    """Whether it wants its name typed: all tenants, or more than a fifth of the traffic."""
    share = preview["share_of_traffic"]
    return chosen.target[0] is None or (share is not None and share > BROAD_SHARE)


def standing(who: Caller, tenant: str, persona: str, now: datetime) -> list[Override]:
    """The overrides that stand for a scope, the newest first."""
    rows = selectors.standing(now).filter(
        Q(tenant=None) | Q(tenant__slug=tenant), Q(persona=None) | Q(persona__slug=persona)
    )
    return list(rows.order_by("-id")[:50])


def tag_of(rows: list[Override]) -> str:
    """What changes when anybody makes, changes or ends an override of the scope."""
    return idempotency.fingerprint([(row.pk, row.version) for row in rows])
