"""The flag as decisions see it: which conversations automatic selection is on for. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def stable_share(salt: str, tenant: str, conversation_id: str) -> float:
    """Where a conversation lies in [0, 1): always the same, evenly spread, independent between salts."""
    digest = hashlib.sha256(f"{salt}|{tenant}|{conversation_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


@dataclass(frozen=True, slots=True)
class FlagState:
    """The flag AUTO_MODEL_SELECTION_ENABLED. Percentages are 0 to 100; ``everyone`` None looks at them: a scope's own
    (``scopes``: tenant to persona to percentage), else the tenant's own, else ``percent``."""

    everyone: bool | None = False
    percent: float = 0.0
    tenants: Mapping[str, float] = field(default_factory=dict)
    salt: str = ""
    scopes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def is_on(self, tenant: str, persona: str, conversation_id: str) -> bool:
        """Never by chance per request; raising a percentage never turns a conversation off."""
        return self.is_among(self.share(tenant, persona), tenant, conversation_id)

    def is_among(self, share: float, tenant: str, conversation_id: str) -> bool:
        """Whether a conversation is among a share of them, 0 to 1."""
        if share <= 0 or share >= 1:
            return share >= 1
        # The persona is not hashed: a scope that gets a share of its own keeps the conversations that it had.
        return stable_share(self.salt, tenant, conversation_id) < share

    def share(self, tenant: str, persona: str) -> float:
        """The share of a scope's conversations that the flag is on for, 0 to 1."""
        own = self.scopes.get(tenant, {}).get(persona)
        return self.tenant_share(tenant) if own is None else self._share(own)

    def tenant_share(self, tenant: str) -> float:
        """The same of a tenant's personas without a share of their own."""
        return self._share(self.tenants.get(tenant, self.percent))

    def is_on_somewhere(self, tenant: str) -> bool:
        """Whether it is on for some conversation of the tenant's."""
        return any(map(self._share, self.scopes.get(tenant, {}).values())) or self.tenant_share(tenant) > 0

    def _share(self, percent: float) -> float:
        if self.everyone is not None:
            return 1.0 if self.everyone else 0.0
        return min(max(percent / 100, 0.0), 1.0)

    def to_dict(self) -> dict[str, Any]:
        """JSON values. Without shares of scopes it reads as before there were any, so that what was archived then
        and what is archived now are the same bytes."""
        scopes = {tenant: dict(shares) for tenant, shares in self.scopes.items() if shares}
        return {
            "everyone": self.everyone,
            "percent": self.percent,
            "tenants": dict(self.tenants),
            "salt": self.salt,
            **({"scopes": scopes} if scopes else {}),
        }
