"""What people decided, as decisions see it: standing overrides by precedence, and the kill switch. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any


class Kind(StrEnum):
    """What an override does to its scope."""

    LOCK = "lock"
    PREFER = "prefer"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class StandingOverride:
    """An operator's choice for a scope; ``tenant``, ``persona``, ``task`` None: all of them. It stands until
    ``expires_at`` (UTC; None: until it is revoked)."""

    id: int
    kind: Kind
    profile: str
    tenant: str | None = None
    persona: str | None = None
    task: str | None = None
    expires_at: datetime | None = None

    @property
    def precedence(self) -> tuple[int, bool, int]:
        """The greatest wins: tenant and persona, tenant, persona, everything; then a task over none; then
        the newest. Ids differ, so no two are equal."""
        level = 2 * (self.tenant is not None) + (self.persona is not None)
        return (level, self.task is not None, self.id)

    def stands(self, task: str, at: datetime) -> bool:
        return self.task in (None, task) and (self.expires_at is None or at < self.expires_at)

    def scope(self) -> str:
        """For people: "aurora x essayist, task essay"."""
        who = f"{self.tenant or 'all tenants'} x {self.persona or 'all personas'}"
        return f"{who}, task {self.task}" if self.task else who

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind.value,
            "profile": self.profile,
            "tenant": self.tenant,
            "persona": self.persona,
            "task": self.task,
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StandingOverride":
        expires = data["expires_at"]
        return cls(
            **{
                **data,
                "kind": Kind(data["kind"]),
                "expires_at": datetime.fromisoformat(expires) if expires else None,
            }
        )


@dataclass(frozen=True)
class Standing:
    """All of it. ``killed`` are tenants whose automatic selection is stopped; ``killed_all``: everybody's."""

    overrides: tuple[StandingOverride, ...] = ()
    killed: frozenset[str] = frozenset()
    killed_all: bool = False

    @cached_property
    def _by_scope(self) -> Mapping[tuple[str | None, str | None], tuple[StandingOverride, ...]]:
        # A decision looks at four keys, whatever the number of overrides.
        found: dict[tuple[str | None, str | None], list[StandingOverride]] = {}
        for override in self.overrides:
            found.setdefault((override.tenant, override.persona), []).append(override)
        return {scope: tuple(items) for scope, items in found.items()}

    def of(self, tenant: str, persona: str, task: str, at: datetime) -> tuple[StandingOverride, ...]:
        """Those that stand for a request, the one with the greatest precedence first."""
        if not self.overrides:
            return ()
        scopes = ((tenant, persona), (tenant, None), (None, persona), (None, None))
        matching = [
            override
            for scope in scopes
            for override in self._by_scope.get(scope, ())
            if override.stands(task, at)
        ]
        return tuple(sorted(matching, key=lambda override: override.precedence, reverse=True))

    def is_killed(self, tenant: str) -> bool:
        return self.killed_all or tenant in self.killed

    def for_tenants(self, tenants: Iterable[str]) -> "Standing":
        """What concerns these tenants."""
        wanted = frozenset(tenants)
        return Standing(
            tuple(o for o in self.overrides if o.tenant is None or o.tenant in wanted),
            self.killed & wanted,
            self.killed_all,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "overrides": [override.to_dict() for override in self.overrides],
            "killed": sorted(self.killed),
            "killed_all": self.killed_all,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Standing":
        return cls(
            overrides=tuple(StandingOverride.from_dict(item) for item in data["overrides"]),
            killed=frozenset(data["killed"]),
            killed_all=data["killed_all"],
        )
