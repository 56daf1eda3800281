"""What people decided, as decisions see it: standing overrides by precedence, and the kill switch. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Any

from overrides.precedence import precedence
from routing.circuit import NO_CIRCUITS, Circuits


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
        """The greatest wins (``overrides.precedence``). Ids differ, so no two are equal."""
        return precedence(self.tenant, self.persona, self.task, self.id)

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


#: By tenant, then by persona; None: overrides of all of them.
_Index = Mapping[str | None, Mapping[str | None, tuple[StandingOverride, ...]]]
_by_id = attrgetter("id")


def _indexed(last: _Index, gone: Collection[StandingOverride], fresh: Collection[StandingOverride]) -> _Index:
    ended = {override.id for override in gone}
    changed: dict[str | None, list[StandingOverride]] = {override.tenant: [] for override in gone}
    for override in fresh:
        changed.setdefault(override.tenant, []).append(override)
    index = dict(last)
    for tenant, added in changed.items():
        kept = [o for of in index.pop(tenant, {}).values() for o in of if o.id not in ended]
        if mine := sorted([*kept, *added], key=_by_id):
            index[tenant] = _by_persona(mine)
    return index


def _by_persona(overrides: Iterable[StandingOverride]) -> Mapping[str | None, tuple[StandingOverride, ...]]:
    found: dict[str | None, list[StandingOverride]] = {}
    for override in overrides:
        found.setdefault(override.persona, []).append(override)
    return {persona: tuple(of) for persona, of in found.items()}


@dataclass(frozen=True)
class Standing:
    """All of it, overrides by id. ``killed`` are tenants whose automatic selection is stopped; ``killed_all``:
    everybody's. ``circuits`` are no choice of people's alone, but stand beside them: profiles in quarantine."""

    overrides: tuple[StandingOverride, ...] = ()
    killed: frozenset[str] = frozenset()
    killed_all: bool = False
    circuits: Circuits = NO_CIRCUITS

    @cached_property
    def _by_tenant(self) -> _Index:
        return _indexed({}, (), self.overrides)

    def followed_by(
        self,
        overrides: tuple[StandingOverride, ...],
        gone: Collection[StandingOverride],
        fresh: Collection[StandingOverride],
        killed: frozenset[str],
        killed_all: bool,
        circuits: Circuits = NO_CIRCUITS,
    ) -> "Standing":
        """What stands after a change: all ``overrides`` by id, of which ``fresh`` were not here, or not like this;
        ``gone`` were. Only tenants that one of these concerns are indexed again."""
        after = Standing(overrides, killed, killed_all, circuits)
        after.__dict__["_by_tenant"] = _indexed(self._by_tenant, gone, fresh)
        return after

    def of(self, tenant: str, persona: str, task: str, at: datetime) -> tuple[StandingOverride, ...]:
        """Those that stand for a request, the one with the greatest precedence first."""
        if not self.overrides:
            return ()
        # A request looks at four keys, whatever the number of overrides.
        matching = [
            override
            for whose in (self._by_tenant.get(tenant, {}), self._by_tenant.get(None, {}))
            for key in (persona, None)
            for override in whose.get(key, ())
            if override.stands(task, at)
        ]
        return tuple(sorted(matching, key=lambda override: override.precedence, reverse=True))

    def is_killed(self, tenant: str) -> bool:
        return self.killed_all or tenant in self.killed

    def for_tenants(self, tenants: Iterable[str]) -> "Standing":
        """What concerns these tenants."""
        wanted = frozenset(tenants)
        mine = [
            override
            for whose in (*wanted, None)
            for of in self._by_tenant.get(whose, {}).values()
            for override in of
        ]
        mine.sort(key=_by_id)
        # Profiles are everybody's, and so are their quarantines.
        return Standing(tuple(mine), self.killed & wanted, self.killed_all, self.circuits)

    def to_dict(self) -> dict[str, Any]:
        """JSON values. Without circuits it reads as before there were any."""
        return {
            "overrides": [override.to_dict() for override in self.overrides],
            "killed": sorted(self.killed),
            "killed_all": self.killed_all,
            **({"circuits": self.circuits.to_dict()} if self.circuits.items else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Standing":
        return cls(
            overrides=tuple(StandingOverride.from_dict(item) for item in data["overrides"]),
            killed=frozenset(data["killed"]),
            killed_all=data["killed_all"],
            circuits=Circuits.from_dict(data["circuits"]) if data.get("circuits") else NO_CIRCUITS,
        )
