"""Sentinels, pure: what makes each fire, what keeps it quiet, and how often noise alone does."""

import random
from decimal import Decimal
from fractions import Fraction
from math import comb
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.sentinels.evidence import Baseline, CellKey, Recent, Seen, Usual
from routing.sentinels.findings import Health, Sentinel, Thresholds, Verdict
from routing.sentinels.judging import WATCHING, health_of, judge
from routing.sentinels.proof import tail

RULES = Thresholds()
FIRED, QUIET, NOT_ENOUGH = Verdict.FIRED, Verdict.QUIET, Verdict.NOT_ENOUGH_DATA
BURST, OTHER = Sentinel.ERROR_BURST, Sentinel.SERVED_OTHER
TOKENS, PRICE = Sentinel.TOKEN_INFLATION, Sentinel.PRICE_CHANGE


def key(tenant: str = "aurora", persona: str = "essayist", task: str = "essay") -> CellKey:
    return CellKey(tenant, persona, task)


def seen(n: int = 20, tokens: int = 100, spread: float = 0.0, **fields: Any) -> Seen:
    """``n`` calls, each of a conversation of its own, of ``tokens`` give or take ``spread``."""
    values = {"requests": n, "conversations": n, "tokens": n * tokens, "squares": n * (tokens**2 + spread**2)}
    values |= {"failed": fields.get("failures", 0), "othered": fields.get("other", 0)}
    return Seen(**{**values, **fields})


def usual(n: int = 1000, failures: int = 50, tokens: int = 100, **fields: Any) -> Usual:
    return Usual(**{"requests": n, "failures": failures, "tokens": n * tokens, **fields})


def both(**fields: Any) -> Recent:
    """The same of two tenants."""
    return {key("aurora"): seen(**fields), key("borealis"): seen(**fields)}


BASE = Baseline({key("aurora"): usual(), key("borealis"): usual()}, markup=0.0)


def verdict(sentinel: Sentinel, recent: Recent, base: Baseline = BASE, rules: Thresholds = RULES) -> Verdict:
    return judge(sentinel, [recent], base, rules).verdict


@pytest.mark.parametrize(
    ("failures", "expected"),
    [(0, QUIET), (1, QUIET), (4, QUIET), (10, FIRED), (20, FIRED)],
)
def test_an_error_burst_is_far_more_failures_than_usual(failures: int, expected: Verdict) -> None:
    assert verdict(BURST, both(n=20, failures=failures)) is expected


def test_what_it_says_names_the_figures() -> None:
    found = judge(BURST, [both(n=10, failures=10)], BASE, RULES)
    assert found.sentence == (
        "20 of 20 calls (100%) in 20 conversations failed; usual for the same work is 5.0%."
    )
    assert found.figures["usual_share"] == 0.05
    assert found.figures["chance"] < 1e-20


def test_few_conversations_prove_nothing_however_often_each_fails() -> None:
    assert verdict(BURST, both(n=200, failures=200, conversations=4, failed=4)) is NOT_ENOUGH
    assert verdict(BURST, both(n=200, failures=200, conversations=6, failed=6)) is FIRED
    # One conversation of each tenant's is tried again and again, and fails.
    assert verdict(BURST, both(n=200, failures=180, conversations=20, failed=1)) is QUIET


def test_without_a_day_before_nothing_is_sudden() -> None:
    assert verdict(BURST, both(n=50, failures=50), Baseline({})) is NOT_ENOUGH


def test_work_that_always_fails_often_does_not_fire_when_more_of_it_comes() -> None:
    """The profile's failures rise from 7% to 60%, and in each task they are as ever."""
    base = Baseline(
        {
            key(who, task=task): usual(n, failures)
            for who in ("aurora", "borealis")
            for task, n, failures in (("essay", 2000, 100), ("code", 100, 60))
        }
    )
    mix = {key(who, task="code"): seen(100, failures=60) for who in ("aurora", "borealis")}
    assert verdict(BURST, mix, base) is QUIET


def test_work_never_seen_before_is_not_judged_by_other_work() -> None:
    assert verdict(BURST, {key(task="new"): seen(50, failures=50)}) is NOT_ENOUGH


def test_a_new_tenant_is_judged_by_what_others_get_for_the_same_work() -> None:
    recent = {key("cygnus"): seen(20, failures=20), key("draco"): seen(20, failures=20)}
    assert verdict(BURST, recent) is FIRED


def test_a_profile_that_fails_for_one_tenant_alone_is_left_to_the_others() -> None:
    recent = {key("aurora"): seen(100, failures=100), key("borealis"): seen(8, failures=0)}
    found = judge(BURST, [recent], BASE, RULES)
    assert found.verdict is QUIET
    assert found.sentence.endswith("Only one tenant sees it.")


def test_one_tenants_word_alone_takes_three_times_the_conversations() -> None:
    assert verdict(BURST, {key(): seen(20, failures=20)}) is NOT_ENOUGH
    assert verdict(BURST, {key(): seen(30, failures=30)}) is FIRED
    # The other one calls too little to tell.
    recent = {key("aurora"): seen(20, failures=20), key("borealis"): seen(2, failures=2)}
    assert verdict(BURST, recent) is NOT_ENOUGH


@pytest.mark.parametrize(("other", "expected"), [(0, QUIET), (2, QUIET), (8, FIRED), (20, FIRED)])
def test_another_model_than_was_asked_for(other: int, expected: Verdict) -> None:
    assert verdict(OTHER, both(n=20, other=other)) is expected


def test_a_gateway_that_always_names_another_model_is_usual() -> None:
    base = Baseline({key(who): usual(other=1000) for who in ("aurora", "borealis")})
    assert verdict(OTHER, both(n=20, other=20), base) is QUIET


@pytest.mark.parametrize(
    ("tokens", "spread", "expected"),
    [(100, 100, QUIET), (150, 10, QUIET), (250, 60, FIRED), (250, 400, QUIET)],
)
def test_token_inflation_is_twice_the_tokens_and_no_luck(
    tokens: int, spread: float, expected: Verdict
) -> None:
    assert verdict(TOKENS, both(n=20, tokens=tokens, spread=spread)) is expected


def test_longer_work_is_no_inflation() -> None:
    base = Baseline(
        {
            key(who, task=task): usual(tokens=tokens)
            for who in ("aurora", "borealis")
            for task, tokens in (("chat", 100), ("essay", 1000))
        }
    )
    assert verdict(TOKENS, both(n=50, tokens=1050, spread=100), base) is QUIET


def billed(cost: str, listed: str = "1", n: int = 20, **fields: Any) -> Recent:
    values = {"n": n, "billed": n, "cost": Decimal(cost), "listed": Decimal(listed)}
    values |= {"billed_cost": values["cost"], "billed_listed": values["listed"]}
    return both(**{**values, **fields})


@pytest.mark.parametrize(
    ("cost", "expected"), [("0.5", QUIET), ("1", QUIET), ("1.19", QUIET), ("1.21", FIRED), ("3", FIRED)]
)
def test_a_price_change_is_a_bill_above_the_list(cost: str, expected: Verdict) -> None:
    assert verdict(PRICE, billed(cost)) is expected


def test_what_was_billed_above_the_list_the_day_before_is_the_lists_mistake() -> None:
    base = Baseline(BASE.cells, markup=0.5)
    found = judge(PRICE, [billed("1.5")], base, RULES)
    assert (found.verdict, "correct the list" in found.sentence) == (QUIET, True)
    assert verdict(PRICE, billed("2.5"), base) is FIRED


def test_a_chronic_markup_of_the_few_billed_calls_does_not_hide_in_the_derived_ones() -> None:
    """A tenth of the calls tell their cost, which is half above the list, today as yesterday."""
    part = {"billed_cost": Decimal("0.15"), "billed_listed": Decimal("0.1")}
    recent = both(n=200, billed=20, cost=Decimal("1.05"), listed=Decimal(1), **part)
    assert verdict(PRICE, recent, Baseline(BASE.cells, markup=0.05)) is QUIET
    assert verdict(PRICE, recent, Baseline(BASE.cells, markup=0.0)) is FIRED
    assert verdict(PRICE, recent, Baseline(BASE.cells, markup=None)) is FIRED


@pytest.mark.parametrize(
    "fields", [{"billed": 3}, {"billed_listed": Decimal(0), "listed": Decimal(0)}], ids=["few", "no price"]
)
def test_a_price_change_takes_bills_and_a_list(fields: dict[str, Any]) -> None:
    assert verdict(PRICE, billed("3", **fields)) is NOT_ENOUGH


@pytest.mark.parametrize(
    ("sentinel", "good", "bad"),
    [
        (BURST, {}, {"failures": 10}),
        (OTHER, {}, {"other": 10}),
        (TOKENS, {"tokens": 110, "spread": 30}, {"tokens": 300, "spread": 30}),
        (PRICE, {}, {"billed_cost": Decimal(2)}),
    ],
)
def test_probes_heal_or_open_again(sentinel: Sentinel, good: Any, bad: Any) -> None:
    bills = {"billed": 10, "billed_cost": Decimal(1), "billed_listed": Decimal(1)}
    assert health_of(sentinel, {key(): seen(10, **{**bills, **good})}, BASE, RULES) is Health.HEALED
    assert health_of(sentinel, {key(): seen(10, **{**bills, **bad})}, BASE, RULES) is Health.SICK
    assert health_of(sentinel, {key(): seen(2)}, BASE, RULES) is Health.UNDECIDED
    assert health_of(sentinel, {}, BASE, RULES) is Health.UNDECIDED


def test_three_failed_probes_are_enough_and_nine_good_ones_are_not() -> None:
    assert health_of(BURST, {key(): seen(3, failures=3)}, BASE, RULES) is Health.SICK
    assert health_of(BURST, {key(): seen(9)}, BASE, RULES) is Health.UNDECIDED
    assert health_of(Sentinel.BY_HAND, {key(): seen(500)}, BASE, RULES) is Health.UNDECIDED


@given(st.integers(1, 40), st.integers(0, 45), st.fractions(Fraction(1, 100), Fraction(99, 100)))
def test_the_tail_is_the_binomials(n: int, k: int, p: Fraction) -> None:
    exact = sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1)), Fraction(0))
    assert tail(k, n, float(p)) == pytest.approx(float(exact), rel=1e-9, abs=1e-300)


cells = st.builds(
    seen,
    n=st.integers(1, 60),
    tokens=st.integers(0, 500),
    spread=st.floats(0, 200),
    failures=st.just(0),
)


@given(
    st.dictionaries(
        st.builds(CellKey, st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("st")), cells
    ),
    st.dictionaries(
        st.builds(CellKey, st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("st")),
        st.builds(usual, st.integers(1, 300), failures=st.just(0), tokens=st.integers(0, 500)),
    ),
    st.sampled_from([None, 0.0, 0.4]),
)
def test_whatever_comes_each_sentinel_says_something_and_no_failure_is_no_burst(
    recent: Recent, base: dict[CellKey, Usual], markup: float | None
) -> None:
    for sentinel in WATCHING:
        found = judge(sentinel, [recent], Baseline(base, markup), RULES)
        assert found.sentence
        assert sentinel is TOKENS or found.verdict is not FIRED
        health_of(sentinel, recent, Baseline(base, markup), RULES)


def _half_minute(chance: random.Random, p: float, retry: float, sigma: float) -> dict[CellKey, Seen]:
    """Half a minute's calls of three tenants: each conversation keeps failing with ``retry``, lengths are lognormal."""
    made: dict[CellKey, Seen] = {}
    for tenant in ("aurora", "borealis", "cygnus"):
        cell = Seen()
        for _ in range(chance.choice((0, 1, 2, 4))):
            calls, bad = 1, chance.random() < p
            while bad and chance.random() < retry:
                calls += 1
            tokens = [int(chance.lognormvariate(5, sigma)) for _ in range(calls)]
            cell = cell + Seen(
                requests=calls,
                conversations=1,
                failures=calls * bad,
                failed=int(bad),
                tokens=sum(tokens),
                squares=float(sum(t * t for t in tokens)),
            )
        made[key(tenant)] = cell
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("p", "retry", "sigma"), [(0.02, 0.5, 0.5), (0.1, 0.5, 1.0), (0.4, 0.3, 1.0)])
def test_noise_alone_hardly_ever_fires(p: float, retry: float, sigma: float) -> None:
    """A profile's day of noise, of conversations that fail together and long-tailed lengths, looked at every half
    minute by both windows: no alarm. docs/sentinels.md tells of more days."""
    chance = random.Random(f"noise {p}")  # no secret
    history = [_half_minute(chance, p, retry, sigma) for _ in range(2880)]
    base: dict[CellKey, Usual] = {}
    for slice_ in history:
        for where, cell in slice_.items():
            more = Usual(cell.requests, cell.failures, 0, cell.tokens)
            base[where] = base.get(where, Usual()) + more
    window: list[dict[CellKey, Seen]] = []
    for _ in range(2880):
        window = [*window[-9:], _half_minute(chance, p, retry, sigma)]
        looked = [_sum(window[-2:]), _sum(window)]
        for sentinel in (BURST, TOKENS):
            assert judge(sentinel, looked, Baseline(base), RULES).verdict is not FIRED


def _sum(slices: list[dict[CellKey, Seen]]) -> dict[CellKey, Seen]:
    found: dict[CellKey, Seen] = {}
    for slice_ in slices:
        for where, cell in slice_.items():
            found[where] = found.get(where, Seen()) + cell
    return found
