"""Profiles in quarantine, as decisions see them: a circuit is open, then half-open, and closes by the clock. Pure."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

#: Whoever a person puts into quarantine.
BY_HAND = "by_hand"
#: What a candidate's reason begins with that lost for it.
QUARANTINED = "quarantined by"


class Phase(StrEnum):
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """One quarantine of a profile. From ``probe_at`` on (UTC; None: never) a small share of conversations may get the
    profile; at ``expires_at`` it is over, whoever else does anything or nothing."""

    id: int
    profile: str
    sentinel: str
    opened_at: datetime
    probe_at: datetime | None
    expires_at: datetime

    def phase(self, at: datetime) -> Phase | None:
        """None: it does not hold then."""
        if not self.opened_at <= at < self.expires_at:
            return None
        return Phase.HALF_OPEN if self.probe_at is not None and at >= self.probe_at else Phase.OPEN

    def why(self) -> str:
        """For people, after "it is"."""
        whom = "a person" if self.sentinel == BY_HAND else f"sentinel {self.sentinel}"
        return f"{QUARANTINED} {whom} until {self.expires_at:%H:%M} UTC"

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "profile": self.profile,
            "sentinel": self.sentinel,
            "opened_at": self.opened_at.isoformat(),
            "probe_at": self.probe_at.isoformat() if self.probe_at else None,
            "expires_at": self.expires_at.isoformat(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Circuit":
        times = {name: datetime.fromisoformat(data[name]) for name in ("opened_at", "expires_at")}
        probe = datetime.fromisoformat(data["probe_at"]) if data["probe_at"] else None
        return cls(data["id"], data["profile"], data["sentinel"], probe_at=probe, **times)


#: Profiles that may not be given, by slug, each with why.
Barred = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Bars:
    """What is barred at a time: ``always``, and ``else_`` only for conversations that do not probe."""

    always: Barred = ()
    else_: Barred = ()

    @cached_property
    def all(self) -> Barred:
        return tuple(sorted((*self.always, *self.else_)))


@dataclass(frozen=True)
class Circuits:
    """All of them, by id, and the share of conversations (0 to 1) that probe half-open ones: one draw for all, so a
    conversation that may meet one sick profile is the same that may meet another."""

    items: tuple[Circuit, ...] = ()
    probe_share: float = 0.0

    def unprobed(self) -> "Circuits":
        """As conversations meet them that do not probe."""
        return replace(self, probe_share=0.0) if self.items else self

    def bars(self, at: datetime) -> Bars:
        """A profile is half-open when all of its circuits that hold are."""
        if not self.items:
            return _NOTHING
        # Between two moments at which one of them changes, all times are alike.
        place = bisect_right(self._moments, at)
        found = self._known.get(place)
        if found is None:
            found = self._known[place] = self._bars(at)
        return found

    @cached_property
    def _moments(self) -> list[datetime]:
        times = ((one.opened_at, one.probe_at, one.expires_at) for one in self.items)
        return sorted({at for of in times for at in of if at is not None})

    @cached_property
    def _known(self) -> dict[int, Bars]:
        return {}

    def _bars(self, at: datetime) -> Bars:
        found: dict[str, tuple[Phase, str]] = {}
        for circuit in self.items:
            phase = circuit.phase(at)
            known = found.get(circuit.profile)
            if phase is None or (known is not None and known[0] is Phase.OPEN):
                continue
            if known is None or phase is Phase.OPEN:
                found[circuit.profile] = (phase, circuit.why())
        probed = self.probe_share > 0
        halves = {slug for slug, (phase, _) in found.items() if phase is Phase.HALF_OPEN and probed}
        return Bars(
            always=tuple(sorted((slug, why) for slug, (_, why) in found.items() if slug not in halves)),
            else_=tuple(sorted((slug, why) for slug, (_, why) in found.items() if slug in halves)),
        )

    def to_dict(self) -> dict[str, Any]:
        return {"items": [circuit.to_dict() for circuit in self.items], "probe_share": self.probe_share}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Circuits":
        return cls(tuple(map(Circuit.from_dict, data["items"])), data["probe_share"])


_NOTHING = Bars()
NO_CIRCUITS = Circuits()
