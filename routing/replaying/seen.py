"""What a policy has seen so far: recorded outcomes added up as telemetry adds up completions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from routing.priors import Priors, priors_of
from routing.replaying.outcomes import Outcome
from routing.scoring import Evidence
from telemetry.histogram import BUCKETS, bucket_of
from telemetry.totals import Totals


@dataclass(slots=True)
class Sums:
    """Running totals of one model; grows, unlike ``Totals``, which it turns into."""

    requests: int = 0
    successes: int = 0
    safety_violations: int = 0
    accuracy_sum: Decimal = Decimal(0)
    accuracy_count: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    priced: int = 0
    priced_tokens: int = 0
    priced_successes: int = 0
    cost_usd: Decimal = Decimal(0)
    latency: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, outcome: Outcome) -> None:
        self.requests += 1
        self.successes += outcome.success
        self.safety_violations += outcome.safety_violation
        self.prompt_tokens += outcome.prompt_tokens
        self.completion_tokens += outcome.completion_tokens
        if outcome.score is not None:
            self.accuracy_sum += Decimal(str(outcome.score))
            self.accuracy_count += 1
        if outcome.cost_usd is not None:
            self.priced += 1
            self.priced_tokens += outcome.prompt_tokens + outcome.completion_tokens
            self.priced_successes += outcome.success
            self.cost_usd += outcome.cost_usd
        if outcome.latency_ms is not None:
            self.latency[bucket_of(outcome.latency_ms)] += 1

    def totals(self, at: datetime) -> Totals:
        """As of ``at`` (UTC)."""
        return Totals(
            requests=self.requests,
            successes=self.successes,
            safety_violations=self.safety_violations,
            accuracy_sum=self.accuracy_sum,
            accuracy_count=self.accuracy_count,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            priced=self.priced,
            priced_tokens=self.priced_tokens,
            priced_successes=self.priced_successes,
            cost_usd=self.cost_usd,
            latency=tuple(self.latency),
            last_event_at=at if self.requests else None,
        )


class Seen:
    """Totals by model, of all that was shown: of the replayed scope, and of ``elsewhere``, which other personas had."""

    def __init__(self, models: Iterable[str]) -> None:
        self._sums = {model: Sums() for model in models}
        self._elsewhere: dict[str, dict[str, Sums]] = {}

    def show(self, outcomes: Iterable[Outcome]) -> None:
        """Outcomes of the models given at the start; a policy shall know nothing of others."""
        for outcome in outcomes:
            self._sums[outcome.model].add(outcome)

    def show_elsewhere(self, outcomes: Iterable[Outcome]) -> None:
        """As ``show``, of other personas' conversations: each category is one."""
        for outcome in outcomes:
            persona = self._elsewhere.setdefault(outcome.category, {})
            persona.setdefault(outcome.model, Sums()).add(outcome)

    def totals(self, at: datetime) -> dict[str, Totals]:
        return {model: sums.totals(at) for model, sums in self._sums.items()}

    def evidence(self, at: datetime, max_latency_p95_ms: int) -> list[Evidence]:
        """For scoring. All that was seen stands for the day; recorded days have no hours, so the hour is empty."""
        here = self.totals(at)
        others = ({m: sums.totals(at) for m, sums in of.items()} for of in self._elsewhere.values())
        lent = priors_of(here, others, max_latency_p95_ms)
        none = Priors()
        return [Evidence(m, totals, Totals(), priors=lent.get(m, none)) for m, totals in here.items()]
