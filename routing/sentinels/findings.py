"""What a sentinel says, and the thresholds that it says it by. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Sentinel(StrEnum):
    """Each has its quarantines; ``BY_HAND`` is a person."""

    ERROR_BURST = "error_burst"
    SERVED_OTHER = "served_other"
    TOKEN_INFLATION = "token_inflation"  # noqa: S105  # no password
    PRICE_CHANGE = "price_change"
    BY_HAND = "by_hand"


class Verdict(StrEnum):
    FIRED = "fired"
    QUIET = "quiet"
    NOT_ENOUGH_DATA = "not_enough_data"


class Health(StrEnum):
    """What probes of a half-open profile prove."""

    HEALED = "healed"
    SICK = "sick"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Finding:
    """``figures`` are JSON values, over all tenants; ``sentence`` tells them to people."""

    sentinel: Sentinel
    verdict: Verdict
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``min_samples``: conversations; ``excess``: how far a share (0 to 1) must be above what is usual; ``token_ratio``
    times the usual tokens; ``price_rise`` above the list (0.2: a fifth); ``chance``: the most that noise may explain;
    ``least_base``: calls that a baseline needs; ``probes``: conversations that heal."""

    min_samples: int = 10
    excess: float = 0.2
    token_ratio: float = 2.0
    price_rise: float = 0.2
    chance: float = 1e-7
    least_base: int = 50
    probes: int = 10

    def strict(self) -> "Thresholds":
        """For what one tenant alone reports: three times the conversations, and a chance squared."""
        return replace(self, min_samples=3 * self.min_samples, chance=self.chance**2)
