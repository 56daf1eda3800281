"""What each side of the run comes to, and by how much they differ, with 95% intervals. Pure.

Conversations, not completions, are what is independent: ratios by the delta method over conversations, rates by
Wilson's interval at the effective sample size, differences of rates by Newcombe's method 10
(routing.savings_intervals); the p95 by a bootstrap over conversations.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from demo.report.calls import Call
from routing.replaying.metrics import draws, p95
from routing.savings_intervals import Clustered, Estimate, Part, around, rate_difference, weighted_rate

#: Fewer conversations than this have no figures: their intervals would be as wide as they are wrong.
LEAST = 10
_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Side:
    """One side's completions. Costs in US dollars per completion with a known cost, rates 0 to 1, p95 in milliseconds;
    None: fewer than LEAST conversations. ``shares`` of completions by profile, ``reasons`` by rule ("none": nobody
    decided), 0 to 1. ``resampled_p95`` are the bootstrap's."""

    conversations: int
    completions: int
    spent: Decimal
    cost: Clustered | None
    success: Estimate | None
    safety: Estimate | None
    escalation: Estimate | None
    escalated: int
    p95: Estimate | None
    resampled_p95: Sequence[float]
    shares: Mapping[str, float]
    reasons: Mapping[str, float]

    @property
    def cost_per_completion(self) -> Estimate | None:
        return around(self.cost.ratio, [Part(self.cost.variance, self.cost.n)]) if self.cost else None


@dataclass(frozen=True, slots=True)
class Change:
    """What comes after less what was before; ``cost_share`` as a share of the cost before. None: cannot be told."""

    cost: Estimate | None
    cost_share: Estimate | None
    success: Estimate | None
    safety: Estimate | None
    escalation: Estimate | None
    p95: Estimate | None


def side_of(calls: Iterable[Call], seed: str) -> Side:
    """The same for the same calls and seed. ``seed`` draws the bootstrap; give each side another, or their draws are no
    more independent than equal."""
    talks: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        talks.setdefault((call.scope.tenant, call.completion.conversation_id), []).append(call)
    every = [call for talk in talks.values() for call in talk]
    profiles = Counter(call.completion.profile for call in every)
    reasons = Counter(call.reason or "none" for call in every)
    resampled = _resampled_p95(list(talks.values()), seed)
    return Side(
        conversations=len(talks),
        completions=len(every),
        spent=sum((call.completion.cost_usd or Decimal(0) for call in every), Decimal(0)),
        cost=_cost(talks.values()),
        success=_rate(talks.values(), "success"),
        safety=_rate(talks.values(), "safety_violation"),
        escalation=_rate(talks.values(), "escalated"),
        escalated=sum(call.completion.escalated for call in every),
        p95=_p95(every, resampled),
        resampled_p95=resampled,
        shares={profile: count / len(every) for profile, count in profiles.most_common()},
        reasons={reason: count / len(every) for reason, count in reasons.most_common()},
    )


def change(before: Side, after: Side) -> Change:
    """Between independent sides."""
    return Change(
        cost=_cost_difference(before.cost, after.cost),
        cost_share=_cost_share(before.cost, after.cost),
        success=_difference(before.success, after.success),
        safety=_difference(before.safety, after.safety),
        escalation=_difference(before.escalation, after.escalation),
        p95=_p95_difference(before, after),
    )


def _cost(talks: Iterable[Sequence[Call]]) -> Clustered | None:
    sums = []
    for talk in talks:
        costs = [float(call.completion.cost_usd) for call in talk if call.completion.cost_usd is not None]
        if costs:
            sums.append((len(costs), sum(costs)))
    return _clustered(sums)


def _rate(talks: Iterable[Sequence[Call]], name: str) -> Estimate | None:
    found = _clustered([(len(talk), sum(getattr(call.completion, name) for call in talk)) for talk in talks])
    return weighted_rate([(1.0, found)]) if found else None


def _clustered(sums: Sequence[tuple[int, float]]) -> Clustered | None:
    """Of each conversation what stands below and above the ratio."""
    if len(sums) < LEAST:
        return None
    return Clustered(
        n=len(sums),
        x=sum(x for x, _ in sums),
        y=sum(y for _, y in sums),
        xx=sum(x * x for x, _ in sums),
        yy=sum(y * y for _, y in sums),
        xy=sum(x * y for x, y in sums),
    )


def _cost_difference(before: Clustered | None, after: Clustered | None) -> Estimate | None:
    if before is None or after is None:
        return None
    return around(after.ratio - before.ratio, [Part(one.variance, one.n) for one in (before, after)])


def _cost_share(before: Clustered | None, after: Clustered | None) -> Estimate | None:
    """The variance of a quotient of independent ratios, by the delta method, as in routing.savings."""
    if before is None or after is None or before.ratio <= 0:
        return None
    quotient, scale = after.ratio / before.ratio, before.ratio**-2
    parts = [Part(after.variance * scale, after.n), Part(before.variance * quotient**2 * scale, before.n)]
    return around(quotient - 1, parts)


def _difference(before: Estimate | None, after: Estimate | None) -> Estimate | None:
    return None if before is None or after is None else rate_difference(after, before)


def _resampled_p95(talks: Sequence[Sequence[Call]], seed: str) -> list[float]:
    if len(talks) < LEAST:
        return []
    latencies = sorted(
        ((call.completion.latency_ms, number) for number, talk in enumerate(talks) for call in talk),
        reverse=True,
    )
    found = []
    for drawn in draws(len(talks), _RESAMPLES, seed):
        weights = Counter(drawn)
        counted = [weights[number] for number in range(len(talks))]
        total = sum(counted[number] * len(talk) for number, talk in enumerate(talks))
        found.append(p95(latencies, counted, total) or 0.0)
    return found


def _p95(calls: Sequence[Call], resampled: Sequence[float]) -> Estimate | None:
    if not resampled:
        return None
    ordered = sorted(((call.completion.latency_ms, 0) for call in calls), reverse=True)
    return _middle(p95(ordered, [1], len(ordered)) or 0.0, resampled)


def _p95_difference(before: Side, after: Side) -> Estimate | None:
    if before.p95 is None or after.p95 is None:
        return None
    drawn = [late - early for early, late in zip(before.resampled_p95, after.resampled_p95, strict=True)]
    return _middle(after.p95.value - before.p95.value, drawn)


def _middle(value: float, drawn: Sequence[float]) -> Estimate:
    """The middle 95% of the bootstrap's draws."""
    ordered, last = sorted(drawn), len(drawn) - 1
    return Estimate(value, ordered[round(0.025 * last)], ordered[round(0.975 * last)])
