"""error_burst and served_other: a share of calls that jumped far above what is usual for the same work. Pure."""

from dataclasses import dataclass
from math import floor
from typing import Any

from routing.intervals import wilson
from routing.sentinels.evidence import Baseline, Compared, Recent, compare
from routing.sentinels.findings import Finding, Health, Sentinel, Thresholds, Verdict
from routing.sentinels.proof import tail

_WHAT = {
    Sentinel.ERROR_BURST: "failed",
    Sentinel.SERVED_OTHER: "were answered by another model than was asked for",
}
#: Of the bound that stands in for a baseline's share: it was measured, too.
_CONFIDENCE = 0.99
#: Probes are proved bad when chance shows so much once in a thousand; three are the fewest that can.
_SICK_CHANCE = 1e-3
_FEWEST = 3
_HEALED_CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Share:
    """Bad calls, in ``bad_conversations``, among ``requests`` of ``conversations``, and the share that is usual for
    such work; ``at_most``: its upper bound."""

    bad: int
    bad_conversations: int
    requests: int
    conversations: int
    usual: float
    at_most: float

    @property
    def share(self) -> float:
        return self.bad / self.requests

    def chance(self) -> float:
        """That so many are bad as usual. Calls of one conversation count as one, for they may fail together; and no
        more are bad than conversations with a bad call, so that one that is tried over and over proves little."""
        independent = min(self.conversations, self.requests)
        bad = floor(self.bad * independent / self.requests + 1e-9)
        return tail(min(bad, self.bad_conversations), independent, self.at_most)

    def figures(self) -> dict[str, Any]:
        return {
            "calls": self.requests,
            "conversations": self.conversations,
            "bad": self.bad,
            "bad_conversations": self.bad_conversations,
            "share": round(self.share, 4),
            "usual_share": round(self.usual, 4),
            "chance": float(f"{self.chance():.3g}"),
        }


def share_of(sentinel: Sentinel, found: Compared) -> Share | None:
    """None: nothing to compare."""
    n = found.seen.requests
    if not n or not found.base:
        return None
    seen, burst = found.seen, sentinel is Sentinel.ERROR_BURST
    bad, of = (seen.failures, seen.failed) if burst else (seen.other, seen.othered)
    usual = (found.failures if burst else found.other) / n
    at_most = wilson(usual * found.base, found.base, _CONFIDENCE).upper
    return Share(bad, of, n, seen.conversations, usual, at_most)


def jumped(sentinel: Sentinel, recent: Recent, baseline: Baseline, rules: Thresholds) -> Finding:
    """Whether the share is ``excess`` above the usual one, and chance explains it with at most ``chance``."""
    found = compare(recent, baseline)
    told = share_of(sentinel, found)
    if told is None or found.base < rules.least_base or told.conversations < rules.min_samples:
        return Finding(sentinel, Verdict.NOT_ENOUGH_DATA, "Too few calls, or no day before, to compare.")
    fired = told.share - told.usual >= rules.excess and told.chance() <= rules.chance
    sentence = (
        f"{told.bad} of {told.requests} calls ({told.share:.0%}) in {told.conversations} conversations "
        f"{_WHAT[sentinel]}; "
        f"usual for the same work is {told.usual:.1%}."
    )
    return Finding(sentinel, Verdict.FIRED if fired else Verdict.QUIET, sentence, told.figures())


def healed(sentinel: Sentinel, probes: Recent, baseline: Baseline, rules: Thresholds) -> Health:
    """Healed when the share is proved to be less than ``excess`` above the usual one."""
    told = share_of(sentinel, compare(probes, baseline))
    if told is None:
        return Health.UNDECIDED
    if told.conversations >= _FEWEST and told.chance() <= _SICK_CHANCE:
        return Health.SICK
    independent = min(told.conversations, told.requests)
    upper = wilson(told.share * independent, independent, _HEALED_CONFIDENCE).upper
    if told.conversations >= rules.probes and upper < told.usual + rules.excess:
        return Health.HEALED
    return Health.UNDECIDED
