"""The replay itself: what is decided, and from what."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from routing.replaying.outcomes import Conversation
from routing.replaying.run import AT, Choice, Feedback, Half, Policy, replay
from routing.replaying.seen import Seen
from routing.rules import ScoringRules, Sla
from tests.routing.recorded import TRUSTING, at_random, call, talk, talks

CHEAP = {"cost_usd": Decimal("0.001")}


def given(policy: Policy, conversations: Sequence[Conversation], models: Sequence[str]) -> list[str]:
    return [choice.model for choice in replay(policy, models, Half(()), Half(conversations), "0")]


def pairs(count: int) -> tuple[Conversation, ...]:
    """The incumbent and a model that does as well for a tenth of the cost."""
    return talks([c for n in range(count) for c in (call(f"p{n}", "inc"), call(f"p{n}", "cheap", **CHEAP))])


def test_the_incumbent_serves_until_another_is_proved() -> None:
    policy = Policy(replace(TRUSTING, min_samples=3), "inc")
    choices = list(replay(policy, ["cheap", "inc"], Half(()), Half(pairs(5)), "0"))
    assert [choice.model for choice in choices] == ["inc", "inc", "inc", "cheap", "cheap"]
    assert [choice.reason for choice in choices] == [
        "telemetry_stale",
        "no_eligible_candidate",
        "no_eligible_candidate",
        "ranked",
        "ranked",
    ]


def test_what_was_seen_before_counts_from_the_first_conversation() -> None:
    past, now = pairs(6)[:3], pairs(6)[3:]
    policy = Policy(replace(TRUSTING, min_samples=3), "inc")
    assert [c.model for c in replay(policy, ["cheap", "inc"], Half(past), Half(now), "0")] == ["cheap"] * 3


def test_of_chosen_feedback_nothing_is_learned_about_models_that_were_not_given() -> None:
    policy = Policy(TRUSTING, "inc", feedback=Feedback.CHOSEN)
    assert given(policy, pairs(50), ["cheap", "inc"]) == ["inc"] * 50


def test_exploration_finds_what_chosen_feedback_alone_never_would() -> None:
    policy = Policy(TRUSTING, "inc", exploration=0.2, feedback=Feedback.CHOSEN)
    choices = list(replay(policy, ["cheap", "inc"], Half(()), Half(pairs(50)), "0"))
    first = next(n for n, choice in enumerate(choices) if choice.reason == "explore")
    assert {choice.model for choice in choices[:first]} == {"inc"}
    assert {choice.model for choice in choices[first:]} == {"cheap"}


def test_scores_stand_until_the_next_scoring() -> None:
    policy = Policy(TRUSTING, "inc", rescore_every=3)
    assert given(policy, pairs(5), ["cheap", "inc"]) == ["inc", "inc", "inc", "cheap", "cheap"]


def test_a_pair_that_was_never_recorded_has_no_outcome_and_teaches_nothing() -> None:
    first = pairs(1)
    alone = talk("alone", {"inc": call("alone", "inc")})
    policy = Policy(TRUSTING, "inc", feedback=Feedback.CHOSEN)
    choices = list(replay(policy, ["cheap", "inc"], Half(first), Half([alone, *pairs(1)]), "0"))
    assert [(choice.model, choice.outcome is None) for choice in choices] == [
        ("cheap", True),
        ("cheap", False),
    ]


def test_one_failure_that_is_seen_turns_a_trusting_policy_away() -> None:
    fails = talk("f", {"inc": call("f", "inc"), "cheap": call("f", "cheap", success=False, **CHEAP)})
    rules = ScoringRules(Sla(0.9, 10_000, 1.0), confidence=0.5, min_samples=1)
    assert given(Policy(rules, "inc"), [*pairs(1), fails, *pairs(1)], ["cheap", "inc"]) == [
        "inc",
        "cheap",
        "inc",
    ]


def shuffled(conversations: Sequence[Conversation], start: int, seed: int) -> list[Conversation]:
    """Conversations whose outcomes, from ``start`` on, were dealt anew between them and their models."""
    later = list(conversations[start:])
    calls = [outcome for conversation in later for outcome in conversation.outcomes.values()]
    random.Random(seed).shuffle(calls)
    dealt = iter(calls)
    changed = [
        replace(
            c,
            outcomes={m: replace(next(dealt), prompt_id=c.prompt_id, model=m) for m in c.outcomes},
        )
        for c in later
    ]
    return [*conversations[:start], *changed]


@pytest.mark.parametrize("feedback", list(Feedback))
@pytest.mark.parametrize("rescore_every", [1, 7])
@pytest.mark.parametrize("seed", range(4))
def test_shuffling_future_outcomes_never_changes_a_past_choice(
    feedback: Feedback, rescore_every: int, seed: int
) -> None:
    models = ["a", "b", "c", "inc"]
    recorded = at_random(30, models, seed).conversations
    # So trusting that single outcomes turn choices: a leak of one conversation would show.
    rules = ScoringRules(Sla(0.8, 5_000, 1.0), confidence=0.5, min_samples=1)
    policy = Policy(rules, "inc", 0.4, feedback, rescore_every)

    def told(choices: Iterable[Choice]) -> list[tuple[str, str]]:
        return [(choice.model, choice.reason) for choice in choices]

    before = told(replay(policy, models, Half(()), Half(recorded), "0"))
    changed = 0
    for start in range(30):
        after = told(replay(policy, models, Half(()), Half(shuffled(recorded, start, seed)), "0"))
        # The choice at ``start`` itself is made before its own outcomes are seen.
        assert after[: start + 1] == before[: start + 1]
        changed += after != before
    # Or outcomes would not matter at all, and the test could not fail.
    assert changed > 5


def test_shuffling_future_outcomes_elsewhere_never_changes_a_past_choice() -> None:
    models = ["a", "b", "c", "inc"]
    recorded = at_random(60, models).conversations
    here, elsewhere = recorded[1::2], recorded[::2]  # by turns, the one elsewhere first
    # Four samples of its own and two lent are the fewest that prove anything: what is lent decides.
    policy = Policy(ScoringRules(Sla(0.7, 5_000, 1.0), confidence=0.5, min_samples=30), "inc")

    def told(others: Sequence[Conversation]) -> list[str]:
        choices = replay(policy, models, Half(here[:5], others[:5]), Half(here[5:], others[5:]), "0")
        return [choice.model for choice in choices]

    before = told(elsewhere)
    changed = 0
    for start in range(5, 30):
        after = told(shuffled(elsewhere, start, 0))
        # The conversation ``start`` here comes after the one elsewhere: what is shuffled is not seen before it.
        assert after[: start - 5] == before[: start - 5]
        changed += after != before
    assert changed > 2


def test_what_was_seen_adds_up_as_telemetry_does() -> None:
    seen = Seen(["m"])
    seen.show([call(), call(success=False, cost_usd=None, latency_ms=None, score=None)])
    totals = seen.totals(AT)["m"]
    assert (totals.requests, totals.successes, totals.priced, sum(totals.latency)) == (2, 1, 1, 1)
    assert (totals.cost_per_completion, totals.accuracy) == (Decimal("0.01"), 0.9)
    assert totals.tokens_per_success == 400
