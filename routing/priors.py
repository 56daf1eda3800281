"""What a profile's record under other personas says of its rates under this one. Pure.

Empirical Bayes (Efron and Morris, JASA 70, 1975). For each rate: by how much a profile is above or below all profiles
together under each other persona, weighted by how alike profiles have turned out there and here (their squared
differences beyond chance, as DerSimonian and Laird, Controlled Clinical Trials 7, 1986, take them), beside the guess
that profiles do not differ at all. How closely profiles follow that expectation here (beta-binomial; Gelman et al.,
Bayesian Data Analysis, chapter 5) tells how many samples it is worth. Nothing is set by hand: personas under which
profiles behave alike lend much, others hardly anything.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, sqrt

from telemetry.histogram import slower_than
from telemetry.totals import Totals

#: How closely profiles may follow what is expected of them: worth 1 to 256 samples, in steps of the square root of 2.
#: Beyond that nothing changes, for what is known elsewhere bounds it as well.
_WORTHS = tuple(2 ** (step / 2) for step in range(17))
#: Two profiles tell nothing of how profiles differ.
_FEWEST_PROFILES = 3
_EDGE = 1e-4


@dataclass(frozen=True, slots=True)
class Prior:
    """As good as ``weight`` samples, of which the share ``mean`` (0 to 1) counted."""

    mean: float
    weight: float


@dataclass(frozen=True, slots=True)
class Priors:
    """Of one profile, by what is counted: successes, requests slower than the SLA, safety violations, and grader
    scores. None: nothing is known elsewhere, or too little here to compare."""

    success: Prior | None = None
    slower: Prior | None = None
    unsafe: Prior | None = None
    accuracy: Prior | None = None


#: How often something counted, of how many. Counts may be sums of scores in [0, 1].
Counted = tuple[float, int]
ByProfile = Mapping[str, Counted]


def estimate(counted: float, n: int, prior: Prior | None) -> float | None:
    """The rate that own samples and what is lent come to; None: nothing is known."""
    if prior is None:
        return counted / n if n else None
    return (counted + prior.mean * prior.weight) / (n + prior.weight)


def priors_of(
    here: Mapping[str, Totals], elsewhere: Iterable[Mapping[str, Totals]], max_latency_p95_ms: int
) -> dict[str, Priors]:
    """Priors by profile, from totals by profile under this persona and under each other one; all of the same trailing
    window, over all tenants."""
    others = [totals for totals in elsewhere if totals]
    if not others:
        return {}

    def fitted(count: Callable[[Totals], Counted]) -> Mapping[str, Prior]:
        return fit(_counts(here, count), [_counts(totals, count) for totals in others])

    def slower(totals: Totals) -> Counted:
        return slower_than(totals.latency, max_latency_p95_ms).possible, sum(totals.latency)

    success, slow = fitted(lambda t: (t.successes, t.requests)), fitted(slower)
    unsafe = fitted(lambda t: (t.safety_violations, t.requests))
    accuracy = fitted(lambda t: (float(t.accuracy_sum), t.accuracy_count))
    return {
        profile: Priors(success.get(profile), slow.get(profile), unsafe.get(profile), accuracy.get(profile))
        for profile in sorted({*success, *slow, *unsafe, *accuracy})
    }


def _counts(totals: Mapping[str, Totals], count: Callable[[Totals], Counted]) -> ByProfile:
    counted = ((profile, count(of)) for profile, of in totals.items())
    return {profile: (good, n) for profile, (good, n) in counted if n}


def fit(here: ByProfile, elsewhere: Sequence[ByProfile]) -> dict[str, Prior]:
    """The prior of each profile that is known elsewhere, where n > 0; {} when fewer than three are known here."""
    if len(here) < _FEWEST_PROFILES:
        return {}
    rate = _rate(here)
    apart = {profile: good / n - rate for profile, (good, n) in here.items()}
    chance = {profile: rate * (1 - rate) / n for profile, (_, n) in here.items()}
    # Differences smaller than these few profiles can show are taken to be that large.
    least = sqrt(2 / len(here)) * sum(chance.values()) / len(here)
    alike = max(sum(d * d - chance[p] for p, d in apart.items()) / len(here), least)
    sums: dict[str, tuple[float, float]] = {}
    for counts in elsewhere:
        for profile, (deviation, precision) in _heard(counts, apart, chance, least).items():
            total, so_far = sums.get(profile, (0.0, 1 / alike))
            sums[profile] = (total + precision * deviation, so_far + precision)
    means = {
        p: min(max(rate + total / precision, _EDGE), 1 - _EDGE) for p, (total, precision) in sums.items()
    }
    reach = {p: means[p] * (1 - means[p]) * precision for p, (_, precision) in sums.items()}
    worth = _worth([(means[p], reach[p], here[p]) for p in sums if p in here])
    return {p: Prior(means[p], _weight(worth, reach[p])) for p in sums}


def _heard(
    counts: ByProfile, apart: Mapping[str, float], chance: Mapping[str, float], least: float
) -> dict[str, tuple[float, float]]:
    """By how much each profile is above all under another persona, and how precisely that tells it of this one."""
    both = [profile for profile in counts if profile in apart]
    if len(both) < _FEWEST_PROFILES:
        return {}
    rate = _rate(counts)
    found = {p: (good / n - rate, rate * (1 - rate) / n) for p, (good, n) in counts.items()}
    squares = sum((found[p][0] - apart[p]) ** 2 - found[p][1] - chance[p] for p in both)
    unlike = max(squares / len(both), least)
    return {p: (deviation, 1 / (unlike + noise)) for p, (deviation, noise) in found.items()}


def _rate(counts: ByProfile) -> float:
    """Over all profiles; half a count on either side keeps none and all from certainty."""
    total = sum(n for _, n in counts.values())
    return (sum(good for good, _ in counts.values()) + 0.5) / (total + 1)


def _weight(worth: float, reach: float) -> float:
    """How many samples an expectation is worth, that is itself as precise as ``reach`` samples."""
    return 1 / (1 / worth + 1 / reach)


def _worth(compared: Sequence[tuple[float, float, Counted]]) -> float:
    """The geometric mean of _WORTHS by how likely each makes what was counted (beta-binomial, all worths as likely
    before): little evidence gives the middle, not an end."""
    likely = [sum(_log_likelihood(worth, *of) for of in compared) for worth in _WORTHS]
    most = max(likely)
    weights = [exp(value - most) for value in likely]
    return exp(sum(w * log(worth) for w, worth in zip(weights, _WORTHS, strict=True)) / sum(weights))


def _log_likelihood(worth: float, mean: float, reach: float, counted: Counted) -> float:
    weight = _weight(worth, reach)
    good, bad = mean * weight, (1 - mean) * weight
    return _log_beta(good + counted[0], bad + counted[1] - counted[0]) - _log_beta(good, bad)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
