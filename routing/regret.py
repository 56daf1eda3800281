"""What an override has cost or saved, from exact sums: what its profile cost against what would have been given
without it. Pure.

It is a point estimate: roll-ups keep the sum of costs, not of their squares, so how they scatter is not known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from routing.comparing import Key
from telemetry.histogram import merge, quantile
from telemetry.totals import Totals

#: Of each profile's latencies in a mixture; rounding then moves less than a thousandth of one request.
_FINE = 1_000


class Verdict(StrEnum):
    COST = "cost"
    SAVED = "saved"
    NOT_ENOUGH_DATA = "not_enough_data"
    SAME_CHOICE = "same_choice"


class Source(StrEnum):
    """Where the figures of the profile that was not given are from, the best first."""

    SAME_TIME = "same_time"
    TRAILING_24H = "trailing_24h"
    TRAILING_24H_ALL_TENANTS = "trailing_24h_all_tenants"


@dataclass(frozen=True, slots=True)
class Given:
    """What a profile did. ``source`` None: nowhere are there enough samples of it."""

    profile: str | None
    totals: Totals
    source: Source | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One scope: what was ``given`` by the override, what would have been ``instead``. ``regret_usd`` is positive when
    the override has cost more, None when that cannot be told."""

    key: Key
    given: Given
    instead: Given
    verdict: Verdict
    regret_usd: Decimal | None

    @property
    def is_measured(self) -> bool:
        return self.verdict in (Verdict.COST, Verdict.SAVED)

    @property
    def cost_difference(self) -> Decimal | None:
        """US dollars per completion, given less instead."""
        one, other = self.given.totals.cost_per_completion, self.instead.totals.cost_per_completion
        return one - other if self.is_measured and one is not None and other is not None else None

    @property
    def success_difference(self) -> float | None:
        """Rates 0 to 1, given less instead."""
        return self._less(self.given.totals.success_rate, self.instead.totals.success_rate)

    @property
    def latency_difference(self) -> float | None:
        """Of p95 in milliseconds, given less instead."""
        return self._less(self.given.totals.latency_p95_ms, self.instead.totals.latency_p95_ms)

    def _less(self, one: float | None, other: float | None) -> float | None:
        return one - other if self.is_measured and one is not None and other is not None else None


def is_enough(totals: Totals, min_samples: int) -> bool:
    """Whether rates and costs may be compared: enough completions, and enough of them with a known cost."""
    return totals.requests >= min_samples and totals.priced >= min_samples


def measure(key: Key, given: Given, instead: Given, min_samples: int) -> Measured:
    """``regret_usd`` = completions given x (cost per completion given - instead)."""
    if given.profile is not None and given.profile == instead.profile:
        return Measured(key, given, instead, Verdict.SAME_CHOICE, Decimal(0))
    one, other = given.totals, instead.totals
    if not (is_enough(one, min_samples) and is_enough(other, min_samples)):
        return Measured(key, given, instead, Verdict.NOT_ENOUGH_DATA, None)
    cost, else_ = one.cost_per_completion, other.cost_per_completion
    assert cost is not None  # noqa: S101  # enough of them are priced
    assert else_ is not None  # noqa: S101
    regret = one.requests * (cost - else_)
    return Measured(key, given, instead, Verdict.COST if regret > 0 else Verdict.SAVED, regret)


@dataclass(frozen=True, slots=True)
class Sum:
    """Over the scopes that could be measured; ``n`` are their completions. None: none could."""

    verdict: Verdict
    regret_usd: Decimal | None
    n: int
    success_difference: float | None
    latency_difference: float | None


def add_up(scopes: Sequence[Measured]) -> Sum:
    """Costs add; success is weighed by the completions given; p95 is that of all latencies together, those of the
    profile not given as if it had served as many."""
    known = [scope for scope in scopes if scope.is_measured]
    if not known:
        unknown = any(scope.verdict is Verdict.NOT_ENOUGH_DATA for scope in scopes)
        if unknown:
            return Sum(Verdict.NOT_ENOUGH_DATA, None, 0, None, None)
        return Sum(Verdict.SAME_CHOICE, Decimal(0), 0, None, None)
    regret = sum((scope.regret_usd or Decimal(0) for scope in known), Decimal(0))
    n = sum(scope.given.totals.requests for scope in known)
    success = sum((scope.success_difference or 0.0) * scope.given.totals.requests for scope in known) / n
    verdict = Verdict.COST if regret > 0 else Verdict.SAVED
    return Sum(verdict, regret, n, success, _latency(known))


def _latency(scopes: Iterable[Measured]) -> float | None:
    pairs = [(s.given.totals.latency, s.instead.totals.latency) for s in scopes]
    pairs = [(one, other) for one, other in pairs if sum(one) and sum(other)]
    one = quantile(merge(given for given, _ in pairs), 0.95)
    mixed = merge([round(c * sum(g) * _FINE / sum(other)) for c in other] for g, other in pairs)
    other_p95 = quantile(mixed, 0.95)
    return None if one is None or other_p95 is None else one - other_p95
