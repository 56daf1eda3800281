"""What a profile's record under other personas says of it under this one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.gates import Clause, Proof, Verdict, at_least, at_most, own_minimum
from routing.priors import Prior, estimate, fit, priors_of
from telemetry.totals import Totals

LIKE = {"a": (90.0, 100), "b": (70.0, 100), "c": (50.0, 100)}


def test_profiles_that_behave_alike_everywhere_lend_their_whole_record() -> None:
    found = fit({p: (good / 2, n // 2) for p, (good, n) in LIKE.items()}, [LIKE, LIKE])
    assert [found[p].mean for p in "abc"] == pytest.approx([0.9, 0.7, 0.5], abs=0.03)
    # 200 samples elsewhere, held to be worth less: three profiles cannot tell how alike they are.
    assert all(10 < found[p].weight < 200 for p in "abc")


def test_a_persona_under_which_profiles_behave_otherwise_lends_hardly_anything() -> None:
    here = {"a": (45.0, 50), "b": (35.0, 50), "c": (25.0, 50)}
    upside_down = {"a": (10.0, 100), "b": (50.0, 100), "c": (99.0, 100)}
    alike, beside = fit(here, [LIKE]), fit(here, [LIKE, upside_down])
    for profile in "abc":
        assert beside[profile].mean == pytest.approx(alike[profile].mean, abs=0.05)
    alone = fit(here, [upside_down])
    assert max(prior.weight for prior in alone.values()) < 8 < min(prior.weight for prior in alike.values())


def test_a_harder_persona_lowers_what_is_expected_of_all() -> None:
    hard = {"a": (35.0, 50), "b": (25.0, 50), "c": (15.0, 50)}
    found = fit(hard, [LIKE])
    assert [found[p].mean for p in "abc"] == pytest.approx([0.7, 0.5, 0.3], abs=0.05)


def test_a_profile_that_is_new_here_is_expected_to_do_as_it_does_elsewhere() -> None:
    found = fit(LIKE, [{**LIKE, "new": (80.0, 100)}])
    assert found["new"].mean == pytest.approx(0.8, abs=0.04)
    assert "d" not in fit({**LIKE, "d": (1.0, 10)}, [LIKE])


def test_two_profiles_tell_nothing_of_how_profiles_differ() -> None:
    two = {"a": (90.0, 100), "b": (70.0, 100)}
    assert fit(two, [LIKE]) == {}
    # Heard of, but with nothing to compare: the guess is what all profiles do here, from no other source.
    assert fit(LIKE, [two]) == {}
    assert priors_of({}, [{}], 1_000) == {}


def test_the_worth_of_a_record_by_hand() -> None:
    """Three profiles, one other persona: every number of the method written out."""
    here, there = (
        {"a": (8.0, 10), "b": (5.0, 10), "c": (5.0, 10)},
        {"a": (16.0, 20), "b": (8.0, 20), "c": (6.0, 20)},
    )
    rate, rate_there = 18.5 / 31, 30.5 / 61
    chance, noise = rate * (1 - rate) / 10, rate_there * (1 - rate_there) / 20
    apart = [0.8 - rate, 0.5 - rate, 0.5 - rate]
    other = [0.8 - rate_there, 0.4 - rate_there, 0.3 - rate_there]
    least = (2 / 3) ** 0.5 * chance
    alike = max(sum(d * d - chance for d in apart) / 3, least)
    unlike = max(sum((o - d) ** 2 - noise - chance for o, d in zip(other, apart, strict=True)) / 3, least)
    precision = 1 / (unlike + noise)
    mean = rate + precision * other[0] / (1 / alike + precision)
    prior = fit(here, [there])["a"]
    assert prior.mean == pytest.approx(mean, abs=1e-12)
    reach = mean * (1 - mean) * (1 / alike + precision)
    assert prior.weight < reach
    assert 1 < 1 / (1 / prior.weight - 1 / reach) < 256


def test_totals_are_counted_by_clause() -> None:
    def totals(successes: int, unsafe: int, slow: int) -> Totals:
        latency = [0] * 200
        latency[40], latency[150] = 100 - slow, slow
        return Totals(requests=100, successes=successes, safety_violations=unsafe, latency=tuple(latency))

    here = {"a": totals(90, 0, 1), "b": totals(80, 5, 20), "c": totals(70, 10, 40)}
    found = priors_of(here, [here], 10_000)
    assert sorted(found) == ["a", "b", "c"]
    for name in ("success", "slower", "unsafe"):
        means = [getattr(found[p], name).mean for p in "abc"]
        assert means == sorted(means, reverse=name == "success")
    # Nobody was graded.
    assert found["a"].accuracy is None


def test_an_estimate_counts_what_is_lent_like_samples() -> None:
    assert estimate(8, 10, None) == 0.8
    assert estimate(8, 10, Prior(0.5, 10)) == pytest.approx(0.65)
    assert estimate(0, 0, Prior(0.5, 10)) == 0.5
    assert estimate(0, 0, None) is None


@pytest.mark.parametrize(
    ("n", "lent", "enough"),
    [(30, 0.0, True), (29, 0.0, False), (5, 25.0, True), (5, 24.9, False), (4, 250.0, False)],
)
def test_what_is_lent_fills_up_but_a_sixth_must_be_the_scopes_own(n: int, lent: float, enough: bool) -> None:
    assert own_minimum(30) == 5
    assert Proof(0.9, 30, lent).is_enough(n) is enough


def test_a_gate_counts_what_is_lent_and_says_so() -> None:
    lent = Prior(0.9, 40.0)
    alone = at_least(Clause.SUCCESS, 9, 10, 0.7, Proof(0.9, 30))
    helped = at_least(Clause.SUCCESS, 9, 10, 0.7, Proof(0.9, 30, 40.0), lent)
    assert (alone.verdict, helped.verdict) == (Verdict.UNPROVEN, Verdict.PASS)
    assert (helped.value, helped.n) == (0.9, 10)
    assert helped.sentence() == "success PASS: 0.832 to 0.942, SLA 0.700 (n=10 and 40 lent by other personas)"
    assert at_least(Clause.SUCCESS, 0, 0, 0.7, Proof(0.9, 30, 40.0), lent).verdict is Verdict.UNPROVEN
    unsafe = at_most(Clause.SAFETY, 0, 0, 10, 0.05, Proof(0.9, 30, 40.0), Prior(0.001, 30.0))
    assert unsafe.verdict is Verdict.PASS


counted = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n).map(float), st.just(n)))
records = st.dictionaries(st.sampled_from("abcdef"), counted, max_size=6)


@given(records, st.lists(records, max_size=4))
def test_a_prior_is_a_rate_and_worth_no_more_than_256_samples(
    here: dict[str, tuple[float, int]], elsewhere: list[dict[str, tuple[float, int]]]
) -> None:
    found = fit(here, elsewhere)
    for profile, prior in found.items():
        assert 0 < prior.mean < 1
        assert 0 < prior.weight <= 256
        assert any(profile in counts for counts in elsewhere)
    # Neither the order of personas nor that of profiles matters.
    again = fit(dict(reversed(here.items())), list(reversed(elsewhere)))
    assert set(again) == set(found)
    for profile, prior in found.items():
        assert (again[profile].mean, again[profile].weight) == pytest.approx((prior.mean, prior.weight))


def test_estimates_with_what_is_lent_are_nearer_to_the_truth_than_plain_averages() -> None:
    """Simulated with known rates: 12 profiles, 4 other personas that are harder or easier, profiles a little different
    under each. Squared errors over 60 drawings, and how often the truth lies below a 90% bound."""
    draw, plain, lent, below, all_ = random.Random(7), 0.0, 0.0, 0, 0
    for _ in range(60):
        skills = [draw.gauss(0, 0.1) for _ in range(12)]

        def rates(level: float, spread: float, of: list[float] = skills) -> list[float]:
            return [min(max(level + skill + draw.gauss(0, spread), 0.02), 0.98) for skill in of]

        truth = rates(0.7, 0.03)
        others = [rates(level, 0.03) for level in (0.5, 0.6, 0.75, 0.8)]

        def seen(rates: list[float], n: int) -> dict[str, tuple[float, int]]:
            return {str(i): (float(sum(draw.random() < r for _ in range(n))), n) for i, r in enumerate(rates)}

        here = seen(truth, 15)
        found = fit(here, [seen(rates, 60) for rates in others])
        for i, rate in enumerate(truth):
            good, n = here[str(i)]
            prior = found[str(i)]
            mean = estimate(good, n, prior)
            assert mean is not None
            plain += (good / n - rate) ** 2
            lent += (mean - rate) ** 2
            gate = at_least(Clause.SUCCESS, good, n, 0.0, Proof(0.9, 30, prior.weight), prior)
            assert gate.lower is not None
            below += gate.lower <= rate
            all_ += 1
    assert lent < plain / 2
    assert 0.86 < below / all_ < 0.99
