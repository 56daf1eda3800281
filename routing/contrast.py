"""Why an eligible profile lost, and which single change would have made it win. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import floor
from typing import Any

from routing.rules import ScoringRules, Terms


@dataclass(frozen=True, slots=True)
class Contrast:
    """Each lever alone, all else equal, draws level with the winner; None: that lever alone cannot.

    ``cost_change`` is a share of today's cost (-0.12: 12% less); ``latency_p95_below_ms`` milliseconds;
    ``success_lower_above`` the lower bound of the success rate, 0 to 1.
    """

    lost_by: float
    cost_change: float | None
    latency_p95_below_ms: float | None
    success_lower_above: float | None

    def sentence(self) -> str:
        """For people: "lost by 0.030; wins if cost -12% or p95 < 1.8 s"."""
        levers = []
        if self.cost_change is not None:
            # Rounded away from zero, but for rounding noise: the change that is named suffices.
            levers.append(f"cost {floor(self.cost_change * 100 + 1e-6)}%")
        if self.latency_p95_below_ms is not None:
            levers.append(f"p95 < {floor(self.latency_p95_below_ms / 10) / 100:g} s")
        if self.success_lower_above is not None:
            levers.append(f"proven success > {self.success_lower_above:.3f}")
        wins = " or ".join(levers) if levers else "no single change"
        return (
            f"lost by {self.lost_by:.3f}; wins if {wins}" if levers else f"lost by {self.lost_by:.3f}; {wins}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "lost_by": self.lost_by,
            "cost_change": self.cost_change,
            "latency_p95_below_ms": self.latency_p95_below_ms,
            "success_lower_above": self.success_lower_above,
            "sentence": self.sentence(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Contrast":
        return cls(
            data["lost_by"],
            data["cost_change"],
            data["latency_p95_below_ms"],
            data["success_lower_above"],
        )


def contrast(
    rules: ScoringRules,
    terms: Terms,
    cost: Decimal | None,
    gap: float,
    reference: Decimal | None,
    *,
    cost_moves_alone: bool,
) -> Contrast:
    """What would close a loser's ``gap`` to the winner's score, given its terms and cost per completion.

    ``cost_moves_alone`` False: the loser's own cost is the reference that everybody is measured by, so no
    price change of its own can be told apart.
    """
    sla, weights = rules.sla, rules.weights
    cost_term = _needed(terms.cost, weights.cost, gap) if cost_moves_alone else None
    latency_term = _needed(terms.latency, weights.latency, gap)
    success_term = _needed(terms.success, weights.success, gap)
    above_sla = 1 - sla.min_success_rate
    return Contrast(
        lost_by=gap,
        cost_change=(
            None
            if cost_term is None or not cost or reference is None
            else (1 - cost_term) * float(reference / cost) - 1
        ),
        latency_p95_below_ms=None if latency_term is None else (1 - latency_term) * sla.max_latency_p95_ms,
        success_lower_above=(
            None
            if success_term is None or above_sla <= 0
            else sla.min_success_rate + success_term * above_sla
        ),
    )


def _needed(term: float | None, weight: float, gap: float) -> float | None:
    """The value that a term must reach to close the gap by itself, if that is possible."""
    if term is None or weight <= 0:
        return None
    needed = term + gap / weight
    return needed if needed <= 1 else None
