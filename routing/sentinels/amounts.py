"""token_inflation and price_change: calls that suddenly take more tokens, or cost more than the list says. Pure."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

from routing.sentinels.evidence import Baseline, Compared, Recent, all_of, compare
from routing.sentinels.findings import Finding, Health, Sentinel, Thresholds, Verdict

_TOKENS, _PRICE = Sentinel.TOKEN_INFLATION, Sentinel.PRICE_CHANGE
_FEWEST = 3
_SICK_Z = 3.0
_HEALED_Z = 1.2816


@dataclass(frozen=True, slots=True)
class Tokens:
    """Completion tokens per call, the usual ones for the same work, and the standard error of the former. Calls of one
    conversation count as one."""

    mean: float
    usual: float
    error: float
    conversations: int

    def figures(self) -> dict[str, Any]:
        return {
            "conversations": self.conversations,
            "tokens_per_call": round(self.mean, 1),
            "usual_tokens_per_call": round(self.usual, 1),
            "ratio": round(self.mean / self.usual, 3),
            "standard_error": round(self.error, 2),
        }


def tokens_of(found: Compared) -> Tokens | None:
    """None: nothing to compare."""
    seen = found.seen
    if not seen.requests or found.tokens <= 0:
        return None
    mean = seen.tokens / seen.requests
    variance = max(seen.squares / seen.requests - mean * mean, 0.0)
    independent = max(min(seen.conversations, seen.requests), 1)
    # One degree of freedom less; a single conversation proves nothing.
    error = sqrt(variance / (independent - 1)) if independent > 1 else float("inf")
    return Tokens(mean, found.tokens / seen.requests, error, seen.conversations)


def inflated(recent: Recent, baseline: Baseline, rules: Thresholds) -> Finding:
    """Whether calls take ``token_ratio`` times the usual tokens, and more than usual at all beyond ``chance``."""
    found = compare(recent, baseline)
    told = tokens_of(found)
    # Lengths have long tails, so their mean takes more calls than a share before it is near normal.
    if told is None or found.base < rules.least_base or told.conversations < 2 * rules.min_samples:
        return Finding(_TOKENS, Verdict.NOT_ENOUGH_DATA, "Too few calls, or no day before, to compare.")
    beyond = told.mean - NormalDist().inv_cdf(1 - rules.chance) * told.error > told.usual
    fired = told.mean >= rules.token_ratio * told.usual and beyond
    sentence = (
        f"{told.mean:.0f} completion tokens per call in {told.conversations} conversations, "
        f"{told.mean / told.usual:.1f} times the {told.usual:.0f} that are usual for the same work."
    )
    return Finding(_TOKENS, Verdict.FIRED if fired else Verdict.QUIET, sentence, told.figures())


def deflated(probes: Recent, baseline: Baseline, rules: Thresholds) -> Health:
    """Healed when they are proved to take less than ``token_ratio`` times the usual tokens."""
    told = tokens_of(compare(probes, baseline))
    if told is None or told.conversations < _FEWEST:
        return Health.UNDECIDED
    if told.mean >= rules.token_ratio * told.usual and told.mean - _SICK_Z * told.error > told.usual:
        return Health.SICK
    if (
        told.conversations >= rules.probes
        and told.mean + _HEALED_Z * told.error < rules.token_ratio * told.usual
    ):
        return Health.HEALED
    return Health.UNDECIDED


def dearer(recent: Recent, baseline: Baseline, rules: Thresholds) -> Finding:
    """Whether what the provider bills is ``price_rise`` above the price list, and was not so the day before. Bills are
    no matter of chance: the same tokens cost the same, so no bound is needed beside enough calls."""
    seen = all_of(recent)
    if not seen.billed_listed or min(seen.billed, seen.conversations) < rules.min_samples:
        return Finding(
            _PRICE, Verdict.NOT_ENOUGH_DATA, "Too few calls told their cost, or there is no price."
        )
    markup = float(seen.billed_cost / seen.billed_listed) - 1
    figures = {
        "billed_calls": seen.billed,
        "billed_usd": format(seen.billed_cost, "f"),
        "listed_usd": format(seen.billed_listed, "f"),
        "markup": round(markup, 4),
        "usual_markup": None if baseline.markup is None else round(baseline.markup, 4),
    }
    sentence = f"{seen.billed} calls were billed {markup:+.0%} against the price list"
    if markup <= rules.price_rise:
        return Finding(_PRICE, Verdict.QUIET, f"{sentence}.", figures)
    if _was_so(seen.cost, seen.listed, seen.billed_listed, baseline.markup, rules):
        return Finding(_PRICE, Verdict.QUIET, f"{sentence}, as the day before: correct the list.", figures)
    return Finding(_PRICE, Verdict.FIRED, f"{sentence}.", figures)


def _was_so(cost: Any, listed: Any, billed: Any, usual: float | None, rules: Thresholds) -> bool:
    """Whether the whole of calls, billed or derived, was about as much above the list the day before."""
    if usual is None:
        return False
    rise = float(cost / listed) - 1 - usual
    return rise < rules.price_rise / 2 * float(billed / listed)


def repriced(probes: Recent, rules: Thresholds) -> Health:
    """Healed when they are billed less than ``price_rise`` above the list."""
    seen = all_of(probes)
    if not seen.billed_listed or seen.billed < _FEWEST:
        return Health.UNDECIDED
    markup = float(seen.billed_cost / seen.billed_listed) - 1
    if markup > rules.price_rise:
        return Health.SICK
    return Health.HEALED if min(seen.billed, seen.conversations) >= rules.probes else Health.UNDECIDED
