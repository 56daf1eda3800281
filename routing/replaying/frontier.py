"""RouterBench's AIQ (Hu et al., arXiv:2403.12031): success over the whole range of costs, not at one point. Pure.

A policy is a family: its weight of cost is swept, and between two of its members one may mix. So is the "zero router":
all single models, mixed blindly. A router that is not above it has learnt nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from routing.replaying.outcomes import Recording
from routing.replaying.run import Choice, Policy, fixed, replay
from routing.replaying.study import asked_of, split
from routing.rules import Weights

#: The weights of cost that are tried; the rest goes to success and latency in the policy's own proportion.
SWEEP = tuple(step / 10 for step in range(11))

#: US dollars per completion, and the success rate, 0 to 1.
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Frontier:
    """AIQs, 0 to 1, over costs per completion from ``cheapest`` to ``dearest`` (US dollars), which are the single
    models'. ``points`` are the policy's, by weight of cost. None: too little is known."""

    policy: float | None
    zero_router: float | None
    cheapest: float | None
    dearest: float | None
    points: tuple[tuple[float, Point], ...]


def frontier(
    recording: Recording,
    policy: Policy,
    *,
    splits: int = 0,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Frontier:
    """On the same halves as ``study``. Ticks once per weight. Raises BadOutcomesError as ``study`` does."""
    halves = split(recording, splits, seed)
    points = []
    for weight in SWEEP:
        member = replace(policy, rules=replace(policy.rules, weights=tilted(policy.rules.weights, weight)))
        found = point_of(
            choice
            for number, (train, test) in enumerate(halves)
            for choice in replay(
                asked_of(member, recording.models, train), recording.models, train, test, f"{seed}/{number}"
            )
        )
        if found is not None:
            points.append((weight, found))
        tick()
    tested = [conversation for _, test in halves for conversation in test.here]
    singles = [point_of(fixed(tested, lambda _, m=model: m, "single")) for model in recording.models]  # type: ignore[misc]
    known = [single for single in singles if single is not None]
    costs = [cost for cost, _ in known]
    cheapest, dearest = min(costs, default=None), max(costs, default=None)
    return Frontier(
        policy=aiq([point for _, point in points], cheapest, dearest),
        zero_router=aiq(known, cheapest, dearest),
        cheapest=cheapest,
        dearest=dearest,
        points=tuple(points),
    )


def tilted(weights: Weights, cost: float) -> Weights:
    """Weights with this one of cost; success and latency share the rest as before, or alike when they had none."""
    rest = weights.success + weights.latency
    share = weights.success / rest if rest else 0.5
    return Weights(cost, (1 - cost) * share, (1 - cost) * (1 - share))


def point_of(choices: Iterable[Choice]) -> Point | None:
    """Mean cost and success of the choices that were recorded; None when none was, or none with a cost."""
    outcomes = [choice.outcome for choice in choices if choice.outcome is not None]
    costs = [float(outcome.cost_usd) for outcome in outcomes if outcome.cost_usd is not None]
    if not costs:
        return None
    return sum(costs) / len(costs), sum(outcome.success for outcome in outcomes) / len(outcomes)


def hull(points: Iterable[Point]) -> list[Point]:
    """The non-decreasing convex hull, by cost: what mixing these points can reach, from answering nothing for nothing
    up to the best of them."""
    found: list[Point] = [(0.0, 0.0)]
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if quality <= found[-1][1]:
            continue
        while len(found) > 1 and _is_below(found[-2], found[-1], (cost, quality)):
            found.pop()
        found.append((cost, quality))
    return found


def _is_below(left: Point, middle: Point, right: Point) -> bool:
    """Whether the middle point lies on or under the line between the others."""
    run, rise = right[0] - left[0], right[1] - left[1]
    return (middle[1] - left[1]) * run <= rise * (middle[0] - left[0])


def aiq(points: Sequence[Point], cheapest: float | None, dearest: float | None) -> float | None:
    """The hull's mean height between two costs; beyond its last point it is level. None: no points, or no range."""
    if not points or cheapest is None or dearest is None or dearest <= cheapest:
        return None
    corners = hull(points)
    edges = sorted({cheapest, dearest, *(cost for cost, _ in corners if cheapest < cost < dearest)})
    heights = [_height(corners, cost) for cost in edges]
    area = sum(
        (right - left) * (low + high) / 2
        for (left, right), (low, high) in zip(pairwise(edges), pairwise(heights), strict=True)
    )
    return area / (dearest - cheapest)


def _height(corners: Sequence[Point], cost: float) -> float:
    for left, right in pairwise(corners):
        if left[0] <= cost <= right[0] and left[0] < right[0]:
            return left[1] + (right[1] - left[1]) * (cost - left[0]) / (right[0] - left[0])
    return corners[-1][1]
