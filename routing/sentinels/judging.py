"""All sentinels over a profile's evidence, with the rule for what one tenant alone reports. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from routing.sentinels.amounts import dearer, deflated, inflated, repriced
from routing.sentinels.evidence import Baseline, Recent, leading, without
from routing.sentinels.findings import Finding, Health, Sentinel, Thresholds, Verdict
from routing.sentinels.shares import healed, jumped

Look = Callable[[Recent, Baseline, Thresholds], Finding]

#: In this order: of several that fire each has its own quarantine.
_LOOKS: dict[Sentinel, Look] = {
    Sentinel.ERROR_BURST: lambda recent, base, rules: jumped(Sentinel.ERROR_BURST, recent, base, rules),
    Sentinel.SERVED_OTHER: lambda recent, base, rules: jumped(Sentinel.SERVED_OTHER, recent, base, rules),
    Sentinel.TOKEN_INFLATION: inflated,
    Sentinel.PRICE_CHANGE: dearer,
}
WATCHING = tuple(_LOOKS)
#: Conversations by which other tenants can be proved well.
_OTHERS = 5
#: A share that is a fifth above the usual can be the doing of one among five tenants at most.
_LEADING = 5


def judge(sentinel: Sentinel, windows: Iterable[Recent], baseline: Baseline, rules: Thresholds) -> Finding:
    """What a sentinel says of one profile by several windows: the first that fires, else the last one's finding."""
    found = Finding(sentinel, Verdict.NOT_ENOUGH_DATA, "Nothing was called.")
    for recent in windows:
        found = _of_all_tenants(sentinel, recent, baseline, rules)
        if found.verdict is Verdict.FIRED:
            return found
    return found


def _of_all_tenants(sentinel: Sentinel, recent: Recent, baseline: Baseline, rules: Thresholds) -> Finding:
    """A provider that fails, fails everybody: whichever tenant is left out, the others must not be proved well. When
    they are not proved ill either, what is left is one tenant's word, and that takes far more evidence."""
    look = _LOOKS[sentinel]
    found = look(recent, baseline, rules)
    if found.verdict is not Verdict.FIRED:
        return found
    alone = False
    for tenant in leading(recent, _LEADING):
        others = health_of(sentinel, without(recent, tenant), baseline, replace(rules, probes=_OTHERS))
        if others is Health.HEALED:
            return replace(
                found, verdict=Verdict.QUIET, sentence=f"{found.sentence} Only one tenant sees it."
            )
        alone = alone or others is not Health.SICK
    if alone and look(recent, baseline, rules.strict()).verdict is not Verdict.FIRED:
        told = f"{found.sentence} One tenant alone reports it, which takes more."
        return replace(found, verdict=Verdict.NOT_ENOUGH_DATA, sentence=told)
    return found


def health_of(sentinel: Sentinel, probes: Recent, baseline: Baseline, rules: Thresholds) -> Health:
    """What the calls of a half-open profile prove of what its sentinel fired for. What a person closed, a person opens,
    or the clock."""
    if sentinel is Sentinel.BY_HAND:
        return Health.UNDECIDED
    if sentinel is Sentinel.TOKEN_INFLATION:
        return deflated(probes, baseline, rules)
    if sentinel is Sentinel.PRICE_CHANGE:
        return repriced(probes, rules)
    return healed(sentinel, probes, baseline, rules)
