"""One policy's choices over all splits, added up by group of conversations, so that groups can be resampled."""

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal

from routing.replaying.baselines import misses
from routing.replaying.run import AT, Choice
from routing.replaying.seen import Sums
from routing.rules import Sla

#: What is added up by group. ``oracle_*`` and ``both_*`` cover conversations where this policy's and the oracle's (the
#: incumbent's) outcome were recorded and, for costs, both priced.
COLUMNS = (
    "n",
    "successes",
    "safety_violations",
    "priced",
    "cost",
    "timed",
    "oracle_n",
    "oracle_success_gap",
    "oracle_priced",
    "oracle_cost_gap",
    "both_n",
    "both_success_gap",
    "both_cost",
    "both_incumbent_cost",
)


#: Success is kept when it is at most so much below the incumbent's.
MARGIN = 0.02


class Tally:
    """Grows split by split. ``group_of`` maps prompts to groups 0 to ``groups`` - 1."""

    def __init__(self, group_of: Mapping[str, int], groups: int) -> None:
        self._group_of = group_of
        self.columns: dict[str, list[float]] = {name: [0.0] * groups for name in COLUMNS}
        self.cost_usd = Decimal(0)
        #: Latency in milliseconds and group, of each answer whose latency is known.
        self.latencies: list[tuple[int, int]] = []
        self.given: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.unsupported: Counter[str] = Counter()
        self.breaches: Counter[str] = Counter()
        self.splits = self.splits_breaching = self.swaps = self.swaps_worse = 0

    def add(
        self, choices: Iterable[Choice], oracle: Iterable[Choice], incumbent: Iterable[Choice], sla: Sla
    ) -> None:
        """One split's choices, with the oracle's and the incumbent's for the same conversations in the same order."""
        sums, gaps, swapped = Sums(), [], False
        for choice, best, usual in zip(choices, oracle, incumbent, strict=True):
            self.given[choice.model] += 1
            self.reasons[choice.reason] += 1
            if choice.outcome is None:
                self.unsupported[choice.model] += 1
                continue
            sums.add(choice.outcome)
            self._add(choice, best, usual)
            swapped |= choice.model != usual.model
            if usual.outcome is not None:
                gaps.append(choice.outcome.success - usual.outcome.success)
        missed = misses(sums.totals(AT), sla)
        self.splits += 1
        self.splits_breaching += bool(missed)
        self.breaches.update(missed)
        self.swaps += swapped
        self.swaps_worse += swapped and bool(gaps) and sum(gaps) / len(gaps) < -MARGIN

    def _add(self, choice: Choice, best: Choice, usual: Choice) -> None:
        mine = choice.outcome
        assert mine is not None  # noqa: S101  # looked at before
        group, columns = self._group_of[choice.conversation.prompt_id], self.columns
        columns["n"][group] += 1
        columns["successes"][group] += mine.success
        columns["safety_violations"][group] += mine.safety_violation
        if mine.cost_usd is not None:
            columns["priced"][group] += 1
            columns["cost"][group] += float(mine.cost_usd)
            self.cost_usd += mine.cost_usd
        if mine.latency_ms is not None:
            columns["timed"][group] += 1
            self.latencies.append((mine.latency_ms, group))
        if best.outcome is not None:
            columns["oracle_n"][group] += 1
            columns["oracle_success_gap"][group] += best.outcome.success - mine.success
            if mine.cost_usd is not None and best.outcome.cost_usd is not None:
                columns["oracle_priced"][group] += 1
                columns["oracle_cost_gap"][group] += float(mine.cost_usd - best.outcome.cost_usd)
        if usual.outcome is not None:
            columns["both_n"][group] += 1
            columns["both_success_gap"][group] += mine.success - usual.outcome.success
            if mine.cost_usd is not None and usual.outcome.cost_usd is not None:
                columns["both_cost"][group] += float(mine.cost_usd)
                columns["both_incumbent_cost"][group] += float(usual.outcome.cost_usd)
