"""What several overrides mean together: which is stronger, where they meet, and which leaves another without
effect there. Pure: no Django."""

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

LOCK = "lock"
PREFER = "prefer"
EXCLUDE = "exclude"

#: The number of an override that is not stored yet: it would be the newest.
NEWEST = sys.maxsize


class Claim(Protocol):
    """An override, stored or wished. ``tenant``, ``persona``, ``task`` are slugs, None: all of them. ``id`` None: not
    stored yet."""

    @property
    def id(self) -> int | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def persona(self) -> str | None: ...
    @property
    def task(self) -> str | None: ...


class Wished(Protocol):
    """What somebody wants an override to be (``overrides.services.Wish``)."""

    @property
    def kind(self) -> str: ...
    @property
    def profile(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...
    @property
    def persona(self) -> str | None: ...
    @property
    def task(self) -> str | None: ...
    @property
    def expires_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Hypothetical:
    """An override that might stand. ``id`` None: a new one. Slugs; None: all. ``expires_at`` is UTC; None: never."""

    id: int | None
    kind: str
    profile: str
    tenant: str | None = None
    persona: str | None = None
    task: str | None = None
    expires_at: datetime | None = None

    @classmethod
    def of(cls, wish: Wished, id: int | None = None) -> "Hypothetical":
        """What a wish would come to; ``id`` is the override that it would replace, None: a new one."""
        return cls(id, wish.kind, wish.profile, wish.tenant, wish.persona, wish.task, wish.expires_at)


def level(tenant: bool, persona: bool) -> int:
    """How specific a scope is that names a tenant, or a persona: 3 both, 2 the tenant, 1 the persona, 0 neither."""
    return 2 * tenant + persona


def precedence(
    tenant: str | None, persona: str | None, task: str | None, id: int | None
) -> tuple[int, bool, int]:
    """The greatest wins: tenant and persona, tenant, persona, everything; then a task over none; then the newest.
    Ids differ, so no two are equal."""
    specific = level(tenant is not None, persona is not None)
    return (specific, task is not None, NEWEST if id is None else id)


def of(claim: Claim) -> tuple[int, bool, int]:
    """The precedence of an override."""
    return precedence(claim.tenant, claim.persona, claim.task, claim.id)


def overlaps(one: Claim, other: Claim) -> bool:
    """Whether there is a request that both are about."""
    pairs = ((one.tenant, other.tenant), (one.persona, other.persona), (one.task, other.task))
    return all(mine is None or theirs is None or mine == theirs for mine, theirs in pairs)


def shadows(one: Claim, other: Claim) -> bool:
    """Whether ``one`` leaves ``other`` without effect where they meet.

    A lock does so to weaker locks, to every preference, and to the exclusion of what it locks to; an exclusion to
    the preference for what it excludes; a preference to weaker preferences, while it is itself in effect.
    Exclusions add up, so none shadows another. The kill switch is another matter: it stands above all locks.
    """
    if not overlaps(one, other):
        return False
    match one.kind, other.kind:
        case ("lock", "lock") | ("prefer", "prefer"):
            return of(one) > of(other)
        case ("lock", "prefer"):
            return True
        case ("lock", "exclude") | ("exclude", "prefer"):
            return one.profile == other.profile
    return False
