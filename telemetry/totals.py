"""What roll-ups hold and what is derived from them: exact sums in, metrics out.

Pure: no Django, no I/O. A metric that cannot be told is ``None``, never 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from telemetry import histogram


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the distinct completion events of one profile in one scope and window.

    ``priced``, ``priced_tokens`` and ``priced_successes`` cover only events whose cost is known;
    ``cost_usd`` is their cost in US dollars. ``served_other`` counts answers by another model than was asked
    for. ``latency`` is a histogram (telemetry.histogram).
    """

    requests: int = 0
    successes: int = 0
    escalations: int = 0
    safety_violations: int = 0
    accuracy_sum: Decimal = Decimal(0)
    accuracy_count: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    served_other: int = 0
    priced: int = 0
    priced_tokens: int = 0
    priced_successes: int = 0
    cost_usd: Decimal = Decimal(0)
    latency: tuple[int, ...] = ()
    last_event_at: datetime | None = None

    @property
    def success_rate(self) -> float | None:
        return self.successes / self.requests if self.requests else None

    @property
    def safety_violation_rate(self) -> float | None:
        return self.safety_violations / self.requests if self.requests else None

    @property
    def escalation_rate(self) -> float | None:
        return self.escalations / self.requests if self.requests else None

    @property
    def accuracy(self) -> float | None:
        """Mean grader score (0 to 1) of the graded completions."""
        return float(self.accuracy_sum / self.accuracy_count) if self.accuracy_count else None

    @property
    def cost_per_completion(self) -> Decimal | None:
        """US dollars per completion whose cost is known."""
        return self.cost_usd / self.priced if self.priced else None

    @property
    def cost_per_1k_tokens(self) -> Decimal | None:
        """US dollars per 1,000 prompt and completion tokens of completions whose cost is known."""
        return self.cost_usd * 1000 / self.priced_tokens if self.priced_tokens else None

    @property
    def cost_per_success(self) -> Decimal | None:
        """US dollars per success; failures are paid for too, so they count in the cost."""
        return self.cost_usd / self.priced_successes if self.priced_successes else None

    @property
    def tokens_per_success(self) -> float | None:
        tokens = self.prompt_tokens + self.completion_tokens
        return tokens / self.successes if self.successes else None

    @property
    def latency_p50_ms(self) -> float | None:
        return histogram.quantile(self.latency, 0.50)

    @property
    def latency_p95_ms(self) -> float | None:
        return histogram.quantile(self.latency, 0.95)


def merge(parts: Iterable[Totals]) -> Totals:
    """Add totals, e.g. of several tenants or tasks; the last event is the newest one."""
    parts = list(parts)
    seen = [part.last_event_at for part in parts if part.last_event_at is not None]
    return Totals(
        requests=sum(p.requests for p in parts),
        successes=sum(p.successes for p in parts),
        escalations=sum(p.escalations for p in parts),
        safety_violations=sum(p.safety_violations for p in parts),
        accuracy_sum=sum((p.accuracy_sum for p in parts), Decimal(0)),
        accuracy_count=sum(p.accuracy_count for p in parts),
        prompt_tokens=sum(p.prompt_tokens for p in parts),
        completion_tokens=sum(p.completion_tokens for p in parts),
        cached_tokens=sum(p.cached_tokens for p in parts),
        served_other=sum(p.served_other for p in parts),
        priced=sum(p.priced for p in parts),
        priced_tokens=sum(p.priced_tokens for p in parts),
        priced_successes=sum(p.priced_successes for p in parts),
        cost_usd=sum((p.cost_usd for p in parts), Decimal(0)),
        latency=histogram.merge(p.latency for p in parts),
        last_event_at=max(seen, default=None),
    )
