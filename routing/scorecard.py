"""A scorecard: one profile's figures, verdicts and rank in one scope, and its JSON form. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from routing.contrast import Contrast
from routing.gates import Clause, Gate, Verdict
from routing.priors import Prior
from routing.rules import Terms

#: How the reasons begin by which a profile cannot win whatever its score: without the first two it has a cost term.
COST_UNKNOWN = "cost unknown"
NO_REFERENCE = "no cost reference: the default's cost is unknown or zero, and no maximum is set"
DEARER = "costs more than the default"


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Everything about one profile in one scope that a decision or a person needs.

    Rates 0 to 1, latency in milliseconds, cost in US dollars. ``why_not`` names what keeps it from winning
    by rank; ``contrast`` what would make an eligible loser win. None: unknown.
    """

    profile: str
    eligible: bool
    rank: int | None
    score: float | None
    terms: Terms
    gates: tuple[Gate, ...]
    why_not: tuple[str, ...]
    contrast: Contrast | None
    requests: int
    success_rate: float | None
    cost_per_completion: Decimal | None
    tokens_per_success: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    safety_violation_rate: float | None
    escalation_rate: float | None
    accuracy: float | None
    latency_window: str
    borrowed: bool
    as_of: datetime | None

    @property
    def in_reserve(self) -> bool:
        """Proved to meet the SLA, and kept from winning only by costing more than the default: may stand in for it."""
        return bool(self.why_not) and all(reason.startswith(DEARER) for reason in self.why_not)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; money as text, times as ISO 8601 UTC. ``from_dict`` gives back an equal scorecard."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "cost_per_completion": _text(self.cost_per_completion),
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "terms": {"cost": self.terms.cost, "success": self.terms.success, "latency": self.terms.latency},
            "gates": [gate_to_dict(gate) for gate in self.gates],
            "why_not": list(self.why_not),
            "contrast": self.contrast.to_dict() if self.contrast else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Scorecard":
        cost, as_of, told = data["cost_per_completion"], data["as_of"], data["contrast"]
        return cls(
            **{name: data[name] for name in _PLAIN},
            cost_per_completion=None if cost is None else Decimal(cost),
            as_of=datetime.fromisoformat(as_of) if as_of else None,
            terms=Terms(**data["terms"]),
            gates=tuple(_gate_from_dict(gate) for gate in data["gates"]),
            why_not=tuple(data["why_not"]),
            contrast=Contrast.from_dict(told) if told else None,
        )


_PLAIN = (
    "profile",
    "eligible",
    "rank",
    "score",
    "requests",
    "success_rate",
    "tokens_per_success",
    "latency_p50_ms",
    "latency_p95_ms",
    "safety_violation_rate",
    "escalation_rate",
    "accuracy",
    "latency_window",
    "borrowed",
)
_GATE_FIELDS = ("value", "lower", "upper", "limit", "n")


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def gate_to_dict(gate: Gate) -> dict[str, Any]:
    """JSON values, with the sentence for people."""
    numbers = {name: getattr(gate, name) for name in _GATE_FIELDS}
    return {
        "clause": gate.clause.value,
        "verdict": gate.verdict.value,
        **numbers,
        # Left out where there is none, as in all that was stored before there were any.
        **({"prior": {"mean": gate.prior.mean, "weight": gate.prior.weight}} if gate.prior else {}),
        "sentence": gate.sentence(),
    }


def _gate_from_dict(data: Mapping[str, Any]) -> Gate:
    value, lower, upper, limit, n = (data[name] for name in _GATE_FIELDS)
    prior = Prior(**data["prior"]) if data.get("prior") else None
    return Gate(Clause(data["clause"]), Verdict(data["verdict"]), value, lower, upper, limit, n, prior)
