"""Figures of a policy with bootstrap intervals. Pure, and the same for the same seed.

Groups of conversations are drawn with replacement (Efron, Annals of Statistics 7, 1979); the interval is the middle
95% of what the draws give. All policies of a study share the draws. A prompt that is in several splits stays together,
since its outcomes are not independent.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, log2
from operator import itemgetter

from routing.replaying.tally import Tally

#: More conversations than this are put into so many groups at random: as good, and it bounds the work.
MAX_GROUPS = 2_000
#: RouterArena's constants, US dollars per 1,000 queries (Lu et al., arXiv:2510.00202; its evaluation code).
ARENA_BETA, ARENA_CHEAPEST, ARENA_DEAREST = 0.1, 0.0044, 200.0

#: Figures that are one sum over another.
RATIOS = {
    "cost_per_completion": ("cost", "priced"),
    "success_rate": ("successes", "n"),
    "safety_violation_rate": ("safety_violations", "n"),
    "regret_cost": ("oracle_cost_gap", "oracle_priced"),
    "regret_success": ("oracle_success_gap", "oracle_n"),
    "cost_to_incumbent": ("both_cost", "both_incumbent_cost"),
    "success_to_incumbent": ("both_success_gap", "both_n"),
}
#: All figures, in the order of the report.
FIGURES = (
    "cost_per_completion",
    "success_rate",
    "latency_p95_ms",
    "safety_violation_rate",
    "cost_to_incumbent",
    "success_to_incumbent",
    "regret_cost",
    "regret_success",
    "routerarena",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate and its 95% interval. None: cannot be told."""

    value: float | None
    lower: float | None
    upper: float | None


def groups_of(prompts: Sequence[str], seed: str) -> tuple[dict[str, int], int]:
    """The group of each prompt, and how many groups: each its own, or MAX_GROUPS of nearly equal size."""
    count = min(len(prompts), MAX_GROUPS)
    order = sorted(prompts)
    random.Random(f"{seed}/groups").shuffle(order)  # noqa: S311  # reproducible on purpose
    return {prompt: number % count for number, prompt in enumerate(order)}, count


def draws(groups: int, resamples: int, seed: str) -> list[list[int]]:
    """``resamples`` lists of ``groups`` groups, drawn with replacement."""
    draw = random.Random(f"{seed}/bootstrap")  # noqa: S311  # reproducible on purpose
    return [draw.choices(range(groups), k=groups) for _ in range(resamples)]


def figures(
    tally: Tally, drawn: Sequence[Sequence[int]], tick: Callable[[], None] = lambda: None
) -> dict[str, Figure]:
    """Each of ``FIGURES``: US dollars, rates 0 to 1, milliseconds; ``cost_to_incumbent`` is a quotient."""
    latencies = sorted(tally.latencies, reverse=True)
    groups = range(len(tally.columns["n"]))
    point = _values(tally.columns, latencies, list(groups))
    resampled: dict[str, list[float]] = {name: [] for name in FIGURES}
    for chosen in drawn:
        for name, value in _values(tally.columns, latencies, chosen).items():
            if value is not None:
                resampled[name].append(value)
        tick()
    return {name: _figure(point[name], resampled[name]) for name in FIGURES}


def _values(
    columns: Mapping[str, list[float]], latencies: Sequence[tuple[int, int]], chosen: Sequence[int]
) -> dict[str, float | None]:
    # One group alone is given by itemgetter bare, not in a tuple.
    pick = itemgetter(*chosen) if len(chosen) > 1 else lambda column: (column[chosen[0]],)
    sums = {name: sum(pick(column)) for name, column in columns.items()}
    found = {name: sums[top] / sums[below] if sums[below] else None for name, (top, below) in RATIOS.items()}
    weights = [0] * len(columns["n"])
    for group in chosen:
        weights[group] += 1
    return {
        **found,
        "latency_p95_ms": p95(latencies, weights, round(sums["timed"])),
        "routerarena": arena_score(found["success_rate"], found["cost_per_completion"]),
    }


def p95(latencies: Sequence[tuple[int, int]], weights: Sequence[int], total: int) -> float | None:
    """The nearest-rank p95 of (latency, group), slowest first, each counted as often as its group weighs; ``total`` is
    the sum of these weights."""
    if not total:
        return None
    slower = total - ceil(0.95 * total - 1e-9)
    for (latency, _), passed in zip(
        latencies, accumulate(weights[group] for _, group in latencies), strict=True
    ):
        if passed > slower:
            return float(latency)
    raise AssertionError("the weights sum to the total")


def arena_score(success_rate: float | None, cost_per_completion: float | None) -> float | None:
    """RouterArena's score, 0 to 1: the weighted harmonic mean of accuracy, for which success stands here, and of how
    cheap 1,000 queries are on a logarithmic scale. None outside the scale: free, or dearer than $200."""
    if success_rate is None or not cost_per_completion:
        return None
    cheap = log2(ARENA_DEAREST / (cost_per_completion * 1000)) / log2(ARENA_DEAREST / ARENA_CHEAPEST)
    if cheap <= 0:
        return None
    return (1 + ARENA_BETA) * success_rate * cheap / (ARENA_BETA * success_rate + cheap)


def _figure(value: float | None, resampled: list[float]) -> Figure:
    if value is None or not resampled:
        return Figure(value, None, None)
    ordered = sorted(resampled)
    last = len(ordered) - 1
    return Figure(value, ordered[round(0.025 * last)], ordered[round(0.975 * last)])
