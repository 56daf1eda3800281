"""What a profile's record under other personas says of its rates under this one. Pure.

Empirical Bayes (Efron and Morris, JASA 70, 1975; the beta-binomial of Gelman et al., Bayesian Data Analysis, chapter
5). For each rate: its log-odds elsewhere, shifted by how much harder or easier this persona is over all profiles, is
the mean expected here; how closely profiles follow that expectation, seen over all of them, tells how many samples it
is worth. Nothing is set by hand: profiles that behave alike everywhere lend much, others hardly anything.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import exp, lgamma, log

from telemetry.histogram import slower_than
from telemetry.totals import Totals

#: How closely a profile may follow its record: worth 1 to 256 samples, in steps of the square root of 2. Beyond that
#: nothing changes, for what is known elsewhere bounds it as well.
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


@dataclass(frozen=True, slots=True)
class Record:
    """How often something counted of ``n``, under this persona and under all others. Counts may be sums of scores."""

    here: float
    n: int
    there: float
    n_there: int


def priors_of(
    here: Mapping[str, Totals], there: Mapping[str, Totals], max_latency_p95_ms: int
) -> dict[str, Priors]:
    """Priors by profile from its totals under this persona and under all others together, both over all tenants and
    the same trailing window."""
    both = {profile: (here[profile], there[profile]) for profile in here.keys() & there.keys()}

    def fitted(count: Callable[[Totals], tuple[float, int]]) -> Mapping[str, Prior]:
        return fit({p: Record(*count(mine), *count(others)) for p, (mine, others) in both.items()})

    def slower(totals: Totals) -> tuple[float, int]:
        return slower_than(totals.latency, max_latency_p95_ms).possible, sum(totals.latency)

    success, slow = fitted(lambda t: (t.successes, t.requests)), fitted(slower)
    unsafe = fitted(lambda t: (t.safety_violations, t.requests))
    accuracy = fitted(lambda t: (float(t.accuracy_sum), t.accuracy_count))
    return {
        p: Priors(success.get(p), slow.get(p), unsafe.get(p), accuracy.get(p))
        for p in sorted(both)
        if any(p in found for found in (success, slow, unsafe, accuracy))
    }


def fit(records: Mapping[str, Record]) -> dict[str, Prior]:
    """The prior of each profile that is known elsewhere; {} when fewer than three are known in both places."""
    known = {profile: record for profile, record in records.items() if record.n_there}
    compared = {profile: record for profile, record in known.items() if record.n}
    if len(compared) < _FEWEST_PROFILES:
        return {}
    shift = _shift(compared.values())
    means = {profile: _expected(record, shift) for profile, record in known.items()}
    worth = _worth([(means[profile], record) for profile, record in compared.items()])
    return {
        profile: Prior(means[profile], _weight(worth, record.n_there)) for profile, record in known.items()
    }


def _odds(record: Record) -> float:
    """Log-odds elsewhere; half a count on either side keeps none and all finite."""
    rate = (record.there + 0.5) / (record.n_there + 1)
    return log(rate / (1 - rate))


def _expected(record: Record, shift: float) -> float:
    return min(max(1 / (1 + exp(-_odds(record) - shift)), _EDGE), 1 - _EDGE)


def _shift(records: Iterable[Record]) -> float:
    """The shift of log-odds at which profiles together would have counted as often as they did; by bisection."""
    records = list(records)
    total = sum(record.n for record in records)
    wanted = (sum(record.here for record in records) + 0.5) / (total + 1) * total
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        if sum(_expected(record, middle) * record.n for record in records) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _weight(worth: float, n_there: int) -> float:
    """An expectation from few samples elsewhere is worth no more than these."""
    return 1 / (1 / worth + 1 / n_there)


def _worth(compared: list[tuple[float, Record]]) -> float:
    """The geometric mean of _WORTHS by how likely each makes what was counted (beta-binomial, all worths as likely
    before): little evidence gives the middle, not an end."""
    likely = [sum(_log_likelihood(worth, mean, record) for mean, record in compared) for worth in _WORTHS]
    most = max(likely)
    weights = [exp(value - most) for value in likely]
    return exp(sum(w * log(worth) for w, worth in zip(weights, _WORTHS, strict=True)) / sum(weights))


def _log_likelihood(worth: float, mean: float, record: Record) -> float:
    weight = _weight(worth, record.n_there)
    good, bad = mean * weight, (1 - mean) * weight
    return _log_beta(good + record.here, bad + record.n - record.here) - _log_beta(good, bad)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
