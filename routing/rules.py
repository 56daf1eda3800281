"""What a persona asks of a profile, and what a profile's figures come to. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Sla:
    """Rates 0 to 1, latency in milliseconds, money in US dollars."""

    min_success_rate: float
    max_latency_p95_ms: int
    max_safety_violation_rate: float
    min_accuracy: float | None = None
    max_cost_per_completion: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """They sum to 1."""

    cost: float = 0.5
    success: float = 0.3
    latency: float = 0.2


@dataclass(frozen=True, slots=True)
class ScoringRules:
    """What a persona asks: its SLA, its weights, and how much proof it wants."""

    sla: Sla
    weights: Weights = Weights()
    confidence: float = 0.9
    min_samples: int = 30

    def to_dict(self) -> dict[str, Any]:
        """JSON values, money as text; ``from_dict`` gives back equal rules."""
        cap = self.sla.max_cost_per_completion
        data = asdict(self)
        data["sla"]["max_cost_per_completion"] = None if cap is None else format(cap, "f")
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ScoringRules":
        cap = data["sla"]["max_cost_per_completion"]
        sla = Sla(**{**data["sla"], "max_cost_per_completion": None if cap is None else Decimal(cap)})
        return cls(**{**data, "sla": sla, "weights": Weights(**data["weights"])})


@dataclass(frozen=True, slots=True)
class Terms:
    """0 to 1 each, 1 is best; None: cannot be told."""

    cost: float | None
    success: float | None
    latency: float | None
