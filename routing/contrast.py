"""Why an eligible profile lost, and which single change would have made it win. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor
from typing import Any

from routing.rules import ScoringRules, Terms
from telemetry.histogram import quantile

#: From here on nobody can pull a lever: a price cut of 99% or more, a p95 at the least that the histogram
#: can tell, a success rate proved to be 1. A term that would have to exceed 1 lies beyond these as well.
_MOST_CUT = 0.99
_LEAST_P95_MS = quantile((1,), 0.95) or 1.0
_MOST_SUCCESS = 1 - 1e-6


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
        """For people: "lost by 0.030; wins if cost -12% or p95 < 1.8 s". Figures are rounded to the far side,
        so that what is named wins, and does not merely draw level and then lose the tie."""
        levers = []
        if self.cost_change is not None:
            # The next whole percent; the small addition keeps rounding noise from passing for a margin.
            levers.append(f"cost -{floor(-self.cost_change * 100 + 1e-6) + 1}%")
        if self.latency_p95_below_ms is not None:
            levers.append(f"p95 < {_below(self.latency_p95_below_ms)}")
        if self.success_lower_above is not None:
            levers.append(f"proven success > {_above(self.success_lower_above)}")
        wins = f"wins if {' or '.join(levers)}" if levers else "no single change wins"
        return f"{_lost(self.lost_by)}; {wins}"

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


def _lost(by: float) -> str:
    if by == 0:
        return "lost a tie on tokens per success or name"
    return f"lost by {by:.3f}" if by >= 0.0005 else "lost by less than 0.001"


def _below(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{floor(milliseconds / 10) / 100:g} s"
    return f"{floor(milliseconds):g} ms" if milliseconds >= 10 else f"{floor(milliseconds * 100) / 100:g} ms"


def _above(rate: float) -> str:
    digits = 3 if rate <= 0.998 else 6
    return f"{ceil(rate * 10**digits) / 10**digits:.{digits}f}"


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
    change = below = above = None
    if cost_term is not None and cost and reference is not None:
        change = (1 - cost_term) * float(reference / cost) - 1
    if latency_term is not None:
        below = (1 - latency_term) * sla.max_latency_p95_ms
    if success_term is not None:
        above = sla.min_success_rate + success_term * (1 - sla.min_success_rate)
    return Contrast(
        lost_by=gap,
        # Rounding may leave a tie's change a hair above 0; as a change it is none.
        cost_change=None if change is None or change <= -_MOST_CUT else min(change, 0.0),
        latency_p95_below_ms=None if below is None or below <= _LEAST_P95_MS else below,
        success_lower_above=None if above is None or above >= _MOST_SUCCESS else above,
    )


def _needed(term: float | None, weight: float, gap: float) -> float | None:
    """The value that a term must reach to close the gap by itself; above 1 it cannot."""
    return None if term is None or weight <= 0 else term + gap / weight
