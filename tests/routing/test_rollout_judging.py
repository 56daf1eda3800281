"""Whether a step goes on, holds or rolls back: by the proof, the time and the conversations that it has."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.rollout.evidence import ArmSums, Measure, StepEvidence, counts_of
from routing.rollout.judging import judge
from routing.rollout.plan import Plan
from routing.rollout.verdict import Action, State, Verdict
from tests.routing.rollouts import NOW, PLAN, arm, step, usual

ONWARD = {Action.ADVANCE, Action.COMPLETE}


def judged(*evidence: StepEvidence, plan: Plan = PLAN, holdout: bool = True) -> Verdict:
    return judge(plan, evidence[-1].index, evidence, NOW, holdout=holdout)


def test_a_step_that_is_no_worse_goes_on_after_its_time_and_conversations() -> None:
    verdict = judged(step(0, usual(300), usual(29_700)))
    assert verdict.action is Action.ADVANCE
    assert verdict.reason == "Advances to 5%: no measure is worse than control by its margin."
    assert {bound.state for bound in verdict.bounds.values()} == {State.NON_INFERIOR}
    assert (verdict.treated, verdict.control, verdict.waits_for) == (300, 29_700, ())


def test_time_and_both_arms_conversations_are_waited_for() -> None:
    verdict = judged(step(3, usual(199), usual(40), minutes=38.5))
    assert verdict.action is Action.HOLD
    assert verdict.waits_for[:3] == (
        "22 more minutes",
        "1 more treated conversation",
        "160 more control conversations",
    )


def test_proof_that_is_lacking_is_waited_for_with_how_far_it_is() -> None:
    verdict = judged(step(3, usual(1_000), usual(1_000)))
    assert verdict.action is Action.HOLD
    assert verdict.waits_for[0] == "proof that a fall of success is below 2 points (now below 4.32 points)"
    assert verdict.bounds[Measure.SUCCESS].state is State.UNPROVEN
    assert verdict.reason.startswith("Holds: waits for proof that a fall of success")


def test_the_last_step_completes() -> None:
    assert judged(step(4, usual(29_400), usual(600))).action is Action.COMPLETE


@pytest.mark.parametrize(
    ("worse", "measure", "words"),
    [
        (arm(2_000, failed=300, escalated=60, slow=80), Measure.SUCCESS, "a fall of success"),
        (arm(2_000, failed=200, unsafe=30, escalated=60, slow=80), Measure.SAFETY, "safety violations"),
        (arm(2_000, failed=200, escalated=140, slow=80), Measure.ESCALATION, "a rise of escalations"),
        (arm(2_000, failed=200, escalated=60, slow=200), Measure.SLOW, "slower than the SLA's p95"),
    ],
)
def test_each_measure_rolls_back_once_it_is_proved_to_be_worse(
    worse: ArmSums, measure: Measure, words: str
) -> None:
    verdict = judged(step(2, worse, usual(6_000)))
    assert verdict.action is Action.ROLL_BACK
    assert verdict.reason.startswith("Rolls back: ")
    assert words in verdict.reason
    regressed = [one for one, bound in verdict.bounds.items() if bound.state is State.REGRESSION]
    assert regressed == [measure]
    assert verdict.bounds[measure].lower >= verdict.bounds[measure].tolerance
    assert verdict.waits_for == ()


def test_a_disaster_does_not_wait_for_time_or_conversations() -> None:
    assert judged(step(0, arm(30, failed=28), usual(2_970), minutes=1)).action is Action.ROLL_BACK


def test_a_fall_of_success_within_its_tolerance_neither_rolls_back_nor_holds_forever() -> None:
    verdict = judged(step(3, usual(60_000, fail=0.105), usual(60_000)))
    assert verdict.action is Action.ADVANCE
    # No rise of safety violations or escalations is tolerated, however small, once it is proved.
    more = arm(60_000, failed=6_000, escalated=2_200, slow=2_400)
    assert judged(step(3, more, usual(60_000))).action is Action.ROLL_BACK


def test_two_violations_of_few_treated_are_not_proof_of_a_rise() -> None:
    control = arm(30_000, failed=3_000, unsafe=60, escalated=900, slow=1_200)
    treated = arm(300, failed=30, unsafe=2, escalated=9, slow=12)
    assert judged(step(0, treated, control)).bounds[Measure.SAFETY].state is not State.REGRESSION


def test_no_violation_of_a_small_holdout_is_not_proof_of_a_rise_either() -> None:
    treated = arm(10_000, failed=1_000, unsafe=20, escalated=300, slow=400)
    assert judged(step(4, treated, usual(200))).bounds[Measure.SAFETY].state is not State.REGRESSION


def test_the_steps_before_count_for_harm_but_not_for_going_on() -> None:
    before = [
        step(0, usual(6_000, fail=0.125), usual(60_000)),
        step(1, usual(6_000, fail=0.125), usual(60_000)),
    ]
    now = step(2, usual(1_500, fail=0.125), usual(4_500))
    assert judged(now).action is not Action.ROLL_BACK
    assert judged(*before, now).action is Action.ROLL_BACK
    good = [step(0, usual(9_000), usual(30_000)), step(1, usual(9_000), usual(30_000))]
    assert judged(*good, step(2, usual(210), usual(630))).action is Action.HOLD


def test_at_all_conversations_without_a_holdout_time_and_conversations_are_all_that_is_waited_for() -> None:
    early = judged(step(4, usual(150), ArmSums.empty()), holdout=False)
    assert (early.action, early.waits_for) == (Action.HOLD, ("50 more treated conversations",))
    verdict = judged(step(4, usual(500, fail=0.6), ArmSums.empty()), holdout=False)
    assert verdict.action is Action.COMPLETE
    assert verdict.reason.endswith("without a holdout nothing is compared at 100%.")
    # Where there should be one, its conversations are waited for.
    assert "200 more control conversations" in judged(step(4, usual(500), ArmSums.empty())).waits_for


def test_below_all_conversations_control_is_wanted_also_without_a_holdout() -> None:
    verdict = judged(step(3, usual(500), ArmSums.empty()), holdout=False)
    assert verdict.action is Action.HOLD
    assert verdict.waits_for[-1].endswith("(nothing known yet)")


def test_nothing_at_all_holds() -> None:
    verdict = judged(step(0, ArmSums.empty(), ArmSums.empty(), minutes=0))
    assert verdict.action is Action.HOLD
    for bound in verdict.bounds.values():
        assert (bound.estimate, bound.lower, bound.upper) == (None, -1, 1)


def test_nothing_but_success_goes_on() -> None:
    assert judged(step(3, arm(5_000), arm(5_000))).action is Action.ADVANCE


def test_nothing_but_failures_on_both_sides_is_nobodys_regression() -> None:
    all_fail = arm(20_000, failed=20_000, unsafe=20_000, escalated=20_000, slow=20_000)
    assert judged(step(3, all_fail, all_fail)).action is not Action.ROLL_BACK


def test_a_clock_that_goes_back_only_waits_longer() -> None:
    assert judged(step(0, usual(300), usual(29_700), minutes=-5)).waits_for == ("65 more minutes",)


def test_a_verdict_is_told_in_json() -> None:
    told = json.loads(json.dumps(judged(step(0, usual(300), usual(29_700))).to_dict()))
    assert told["action"] == "advance"
    assert told["bounds"]["success"]["state"] == "non_inferior"
    assert set(told["bounds"]) == {measure.value for measure in Measure}


SIZES = st.integers(0, 4_000)
SHARES = st.floats(0, 1, width=16)


@st.composite
def arms(draw: st.DrawFn) -> ArmSums:
    n = draw(SIZES)
    bad = [round(n * draw(SHARES) ** 2) for _ in Measure]
    return arm(n, failed=bad[0], unsafe=bad[1], escalated=bad[2], slow=bad[3])


@settings(max_examples=15)
@given(st.integers(0, 4), arms(), arms(), st.sampled_from(list(Measure)), st.integers(1, 400))
def test_more_harm_never_makes_a_step_go_on(
    index: int, treated: ArmSums, control: ArmSums, measure: Measure, more: int
) -> None:
    sums = dict(treated.sums)
    change = -more if measure is Measure.SUCCESS else more
    sums[measure] = min(max(sums[measure] + change, 0.0), float(treated.conversations))
    worse = ArmSums(treated.conversations, sums, sums)
    before, after = judged(step(index, treated, control)), judged(step(index, worse, control))
    if before.action not in ONWARD:
        assert after.action not in ONWARD
    if before.action is Action.ROLL_BACK:
        assert after.action is Action.ROLL_BACK


@settings(max_examples=8)
@given(st.lists(st.tuples(arms(), arms()), min_size=1, max_size=3))
def test_a_verdict_depends_on_the_evidence_alone(pairs: Sequence[tuple[ArmSums, ArmSums]]) -> None:
    """However often, and after whatever else, it is looked at."""
    evidence = [step(index, treated, control) for index, (treated, control) in enumerate(pairs)]
    first = judged(*evidence)
    judged(*[replace(one, treated=one.control, control=one.treated) for one in evidence])
    assert judged(*evidence) == first
    assert all(bound.lower >= -1 and bound.upper <= 1 for bound in first.bounds.values())


def mixed(conversations: int, x: float) -> ArmSums:
    """Every conversation has the same share of each, so their mean is known better than of all or nothing."""
    sums = dict.fromkeys(Measure, conversations * x)
    return ArmSums(conversations, sums, dict.fromkeys(Measure, conversations * x * x))


def test_conversations_of_several_completions_count_as_what_they_tell() -> None:
    alike = counts_of(step(3, arm(1_000, failed=100), arm(1_000, failed=100)), Measure.SUCCESS)
    assert (alike.treated, alike.bad_treated) == pytest.approx((1_000, 100))
    # Of a variance of nothing 50 / (90 + 50) is left: it is not believed before many bad outcomes were seen.
    steady = counts_of(step(3, mixed(1_000, 0.1), mixed(1_000, 0.1)), Measure.SLOW)
    assert steady.treated == pytest.approx(1_000 * 140 / 50)
    assert steady.bad_treated == pytest.approx(steady.treated * 0.1)
    # Few: hardly at all.
    rare = counts_of(step(0, mixed(200, 0.01), mixed(20_000, 0.01)), Measure.SLOW)
    assert rare.treated == pytest.approx(200, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: judge(PLAN, 5, [step(4, usual(1), usual(1))], NOW),
        lambda: judge(PLAN, 0, [], NOW),
        lambda: judge(PLAN, 1, [step(0, usual(1), usual(1))], NOW),
        lambda: judge(PLAN, 1, [step(1, usual(1), usual(1)), step(1, usual(1), usual(1))], NOW),
        lambda: judge(PLAN, 0, [step(0, usual(1), usual(1))], NOW.replace(tzinfo=None)),
        lambda: arm(10, failed=11),
        lambda: arm(10, slow=11),
        lambda: arm(-1),
        lambda: ArmSums(1, {}, {}),
        lambda: ArmSums(10, dict.fromkeys(Measure, 1.0), dict.fromkeys(Measure, 2.0)),
    ],
)
def test_evidence_that_cannot_be_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=r"."):
        wrong()


def test_a_step_may_begin_at_any_moment_of_its_attempt() -> None:
    evidence = step(0, usual(300), usual(29_700), minutes=59.999)
    assert judged(evidence).waits_for == ("1 more minute",)
    assert judge(PLAN, 0, [evidence], NOW + timedelta(seconds=1)).action is Action.ADVANCE
