"""What people read of an evaluation."""

from datetime import UTC, datetime

import pytest

from routing.evaluating.candidate import Candidate
from routing.evaluating.evaluation import evaluate
from routing.evaluating.observations import Observation
from routing.evaluating.observing import LeftOut, Observed
from routing.evaluating.report import Setting, as_text
from routing.logged.scope import Scope, Span
from tests.routing.cases import RULES

HALF = {"a": 0.5, "b": 0.5}


def seen(n: int, candidate: dict[str, float], logged: dict[str, float] = HALF) -> Observation:
    """Every second decision gave a at 10 dollars per 1,000, the others b at 30, more or less."""
    profile = "ab"[n % 2] if logged is HALF else "a"
    cost = {"a": 0.010, "b": 0.030}[profile] * (0.9 if n % 4 < 2 else 1.1)
    return Observation(f"c-{n}", "code", profile, logged, candidate, cost, n % 3 > 0, False, False)


def told(*observations: Observation, pool: bool = False) -> str:
    setting = Setting(
        Scope("aurora", "essayist"),
        Span.of(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)),
        Candidate(RULES, "a", 0.02, 0.1, 0.05),
        Observed(list(observations)),
        None,
        pool,
    )
    return as_text(evaluate(observations, pool=pool), setting)


@pytest.mark.parametrize(
    ("candidate", "sentence"),
    [
        ({"a": 1.0}, "DR: the candidate saves $"),
        ({"b": 1.0}, "DR: the candidate costs $"),
        (HALF, "DR: whether the candidate saves is not proved: $"),
    ],
)
def test_the_saving_is_told_in_words(candidate: dict[str, float], sentence: str) -> None:
    last = told(*(seen(n, candidate) for n in range(400))).splitlines()[-1]
    assert last.startswith(sentence)
    assert "poor" not in last
    value, lower, upper = (float(part.strip("$[,]")) for part in last.split("$")[1].split()[:3])
    assert lower <= value <= upper
    if candidate is not HALF:
        # 20 dollars per 1,000 lie between a and b, half of which the candidate moves.
        assert value == pytest.approx(10.0, abs=1.0)


def test_poor_overlap_is_said_with_the_saving() -> None:
    text = told(*(seen(n, {"a": 1.0}) for n in range(60)))
    assert "Overlap poor: worth 30 of 60 conversations" in text
    assert "Few decisions tell it all: below 50 conversations" in text
    assert text.endswith("Overlap is poor: take it as a hint.")


def test_too_few_to_vouch_for_an_interval_is_said() -> None:
    text = told(*(seen(n, {"a": 1.0}) for n in range(16)))
    assert "Below 10 conversations nothing vouches for an interval: log for longer." in text
    assert "[no interval]" in text
    assert "DR: " not in text


def test_a_little_that_is_not_supported_is_left_to_the_model_and_said() -> None:
    little = [
        *(seen(n, {"a": 1.0}) for n in range(400)),
        *(seen(n, {"b": 1.0}, {"a": 1.0}) for n in range(400, 410)),
    ]
    text = told(*little)
    assert "the candidate gives what the log could not have given: b 2.44%." in text
    assert "DR lets its model stand for them, and its intervals hold all that they could come to." in text
    assert "IPS     cannot be told" in text
    assert "DR     -" in text
    assert "--pool" in text
    assert "Pooled" in told(*little, pool=True)


def test_what_was_left_out_and_what_was_not_as_it_should_be_is_said() -> None:
    observations = [seen(n, HALF) for n in range(30)]
    found = Observed(observations, elsewhere=2, unpriced=3)
    found.left_out[LeftOut.INTERRUPTED] = 4
    setting = Setting(
        Scope("aurora", "essayist"),
        Span.of(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)),
        Candidate(RULES, "a", 0.02, 0.1, 0.05),
        found,
        5.0,
        False,
    )
    text = as_text(evaluate(observations, clip=5.0), setting)
    assert text.startswith(
        "aurora x essayist, 2026-11-01 00:00:00 to 2026-11-02 00:00:00 UTC:\n30 logged decisions of 30"
    )
    assert "4 of conversations that cannot be followed from their first decision on are left out." in text
    assert "Of 2 a completion is of another profile than was given" in text
    assert "Of 3 the cost is not known" in text
    assert "0 weights cut to 5." in text
