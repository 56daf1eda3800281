"""Savings from the holdout: by hand, by laws, and the coverage of the intervals where the truth is known."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from math import sqrt
from typing import Any

import numpy as np
import pytest

from routing.choosing import RULES
from routing.decision import Reason
from routing.savings import CONTROL, TREATED, Verdict, savings, stratify
from routing.savings_intervals import Clustered, Estimate, Part, quantile, rate_difference, weighted_rate
from telemetry.arm_sums import Arm, ArmDay, ArmSums
from tests.routing.arms import DAY, arm_sums, rows, sums


def test_the_arms_are_the_holdout_rule_and_the_rules_after_it() -> None:
    names = [rule.__name__ for rule in RULES]
    place = names.index("holdout")
    assert {Reason("holdout")} == CONTROL
    assert {Reason(name) for name in names[place + 1 :]} == TREATED


def test_one_stratum_by_hand() -> None:
    # Control: 3 dollars on 4 completions. Treated: 2 dollars on 8 completions of 3 conversations.
    control = sums([(1, 1.0), (3, 2.0)])
    treated = sums([(2, 0.2), (2, 0.8), (4, 1.0)])
    told = savings(rows(control, treated), minimum=2)
    # 8 x 0.75 - 2; residuals 1 - 0.75, 2 - 2.25 and 0.2 - 0.5, 0.8 - 0.5, 1 - 1.
    assert told.saved_usd is not None
    assert told.saved_usd.value == Decimal(4)
    kept, chosen = 8**2 * 2 / 1 * (0.25**2 + 0.25**2) / 4**2, 3 / 2 * (0.3**2 + 0.3**2)
    df = (kept + chosen) ** 2 / (kept**2 / 1 + chosen**2 / 2)
    assert 1 < df < 3
    half = quantile([Part(kept, 2), Part(chosen, 3)]) * sqrt(kept + chosen)
    assert float(told.saved_usd.lower) == pytest.approx(4 - half, abs=1e-6)
    assert float(told.saved_usd.upper) == pytest.approx(4 + half, abs=1e-6)
    assert told.saved_share is not None
    assert told.saved_share.value == pytest.approx(4 / 6)
    assert told.length is not None
    assert told.length.value == pytest.approx(8 / 3 - 2)
    assert (told.compared, told.unadjusted, told.priced, told.strata, told.days) == (1, 0, 1, 1, 1)


def test_a_task_that_one_arm_has_more_of_does_not_pass_for_a_saving() -> None:
    """Same costs by task in both arms; the control has the dear task far more often."""
    cheap, dear = [(1, 0.01), (2, 0.03)], [(1, 1.0), (2, 1.8)]
    found = rows(sums(cheap * 20), sums(cheap * 300), "cheap")
    found += rows(sums(dear * 60), sums(dear * 100), "dear")
    told = savings(found)
    assert told.saved_usd is not None
    assert abs(told.saved_usd.value) < Decimal("1e-6")
    assert (told.verdict, told.compared, told.strata) == (Verdict.NOT_PROVEN, 1, 2)


def test_a_holdout_share_raised_when_prices_fell_does_not_pass_for_a_loss() -> None:
    """Both arms cost the same every day; the control has most of its conversations after prices fell."""
    before, after = [(1, 0.08), (1, 0.12)], [(1, 0.02), (1, 0.04)]
    found = rows(sums(before * 15), sums(before * 500), day=0) + rows(
        sums(after * 200), sums(after * 300), day=1
    )
    told = savings(found)
    assert told.saved_usd is not None
    assert abs(told.saved_usd.value) < Decimal("1e-6")
    assert told.strata == 2


def test_what_cost_more_is_negative() -> None:
    told = savings(rows(sums([(1, 0.01), (1, 0.02)] * 20), sums([(1, 0.04), (1, 0.05)] * 50)))
    assert told.verdict is Verdict.COST_MORE
    assert told.saved_usd is not None
    assert told.saved_usd.value == Decimal("-3.0")
    assert told.saved_usd.upper < 0
    assert told.saved_share is not None
    assert told.saved_share.value == pytest.approx(-2)


def test_without_a_holdout_no_price_makes_a_saving() -> None:
    """What others call savings: the same tokens at a dearer model's price. There is nothing to compare with here."""
    cheap = sums([(1, 0.001), (1, 0.002)] * 5000)
    told = savings([row for row in rows(ArmSums(), cheap) if row.arm is Arm.TREATED])
    assert told.verdict is Verdict.NOT_ENOUGH_DATA
    assert {told.saved_usd, told.saved_share, told.success, told.length} == {None}
    assert told.compared == 0
    assert told.wanting is not None
    assert told.wanting.control.conversations == 0


def test_nothing_at_all_is_not_enough_data_and_no_error() -> None:
    told = savings([])
    assert (told.verdict, told.compared, told.priced, told.wanting) == (
        Verdict.NOT_ENOUGH_DATA,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(("conversations", "enough"), [(29, False), (30, True)])
def test_thirty_conversations_in_each_arm_are_the_least(conversations: int, enough: bool) -> None:
    control, treated = sums([(1, 0.02)] * conversations), sums([(1, 0.01)] * 100)
    for pair in ((control, treated), (treated, control)):
        told = savings(rows(*pair))
        assert (told.saved_usd is not None) is enough
        assert (told.success is not None) is enough
        assert (told.wanting is None) is enough


def test_completions_of_unknown_cost_are_left_out_and_told() -> None:
    half = replace(sums([(1, 0.01)] * 40), completions=80, completions_squared=160)
    told = savings(rows(sums([(1, 0.02)] * 40), half))
    assert told.priced == 0.5
    assert told.saved_usd is not None
    assert told.saved_usd.value == pytest.approx(Decimal("0.4"))
    unknown = replace(
        sums([(1, 0.0)] * 40), priced=0, priced_conversations=0, priced_squared=0, cost_squared=0.0
    )
    told = savings(rows(sums([(1, 0.02)] * 40), unknown))
    assert told.saved_usd is None
    assert told.success is not None


def test_tasks_too_thin_for_themselves_are_compared_together_and_told() -> None:
    large = rows(sums([(1, 0.02)] * 30), sums([(1, 0.01)] * 60))
    thin = rows(sums([(1, 0.1)] * 15), sums([(1, 0.1)] * 20), "a") + rows(
        sums([(1, 0.3)] * 15), sums([(1, 0.3)] * 20), "b"
    )
    told = savings(large + thin)
    assert told.unadjusted == pytest.approx(0.4)
    assert told.compared == 1
    told = savings(large + thin[:2])
    assert told.unadjusted == 0
    assert told.compared == pytest.approx(0.75)
    assert told.saved_usd is not None
    assert told.saved_usd.value == Decimal("0.6")  # none of it from the task left out


def test_days_stay_apart_where_they_can_and_scopes_always() -> None:
    def day(control: int, number: int, **more: Any) -> list[ArmDay]:
        return rows(sums([(1, 0.02)] * control), sums([(1, 0.01)] * 100), day=number, **more)

    enough, thin = stratify(day(40, 0) + day(20, 1) + day(15, 2) + day(5, 3), 30, "conversations")
    # The last day has too few, and joins the block before it.
    assert [one.control.conversations for one in enough] == [40, 40]
    assert thin == []
    enough, thin = stratify(day(20, 0) + day(20, 0, tenant="borealis"), 30, "conversations")
    assert (enough, len(thin)) == ([], 2)


def test_harm_is_told_beside_a_saving() -> None:
    control = sums([(2, 0.04)] * 100, [2, 2, 2, 1] * 25)
    treated = sums([(2, 0.01)] * 400, [1, 0, 1, 2] * 100)
    told = savings(rows(control, treated))
    assert told.verdict is Verdict.SAVED
    assert told.harms == ("success",)
    assert told.success is not None
    assert told.success.difference.value == pytest.approx(0.5 - 0.875)


def test_no_violation_in_few_conversations_proves_little() -> None:
    """The variance that is seen is 0; the interval is not."""
    told = savings(rows(sums([(3, 0.02)] * 30), sums([(3, 0.01)] * 1000)))
    assert told.safety is not None
    assert told.safety.difference.value == 0
    assert told.safety.difference.lower < -0.1
    assert 0 < told.safety.difference.upper < 0.01


@pytest.mark.parametrize(("df", "t"), [(5, 2.5706), (10, 2.2281), (29, 2.0452), (100, 1.9840), (1e9, 1.9600)])
def test_student_s_quantiles_are_those_of_the_tables(df: float, t: float) -> None:
    assert quantile([Part(1.0, 1 + df)]) == pytest.approx(t, abs=0.001)  # type: ignore[arg-type]


def test_welch_s_degrees_of_freedom_lie_between_those_of_the_parts() -> None:
    assert quantile([Part(1, 11), Part(1, 11)]) == pytest.approx(2.086, abs=0.001)  # 20
    assert quantile([Part(1, 11), Part(0, 5)]) == pytest.approx(2.228, abs=0.001)  # 10


def test_a_difference_of_rates_is_newcombe_s() -> None:
    """His example: 56/70 less 48/80, method 10: 0.0524 to 0.3339."""

    def independent(successes: int, n: int) -> Estimate:
        # Each completion a conversation of its own; n/(n - 1) and t make it wider by a hair.
        return weighted_rate([(1.0, Clustered(n, n, successes, n, successes, successes))])

    told = rate_difference(independent(56, 70), independent(48, 80))
    assert told.value == pytest.approx(0.2)
    assert told.lower == pytest.approx(0.0524, abs=0.004)
    assert told.upper == pytest.approx(0.3339, abs=0.004)


class Scene:
    """Conversations of some completions that are alike (they share an effect), of two tasks of different cost, mixed
    otherwise in the control than among the treated."""

    TASKS = (("essay", 0.02, 0.6, 0.80, 0.78), ("code", 0.08, 0.5, 0.62, 0.62))
    MIX = {Arm.CONTROL: (0.35, 0.65), Arm.TREATED: (0.6, 0.4)}

    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)

    def draw(self, control: int, treated: int, days: int) -> tuple[list[ArmDay], float, float]:
        """Rows, and what was truly saved (US dollars), and the true difference in success."""
        found, saved, won, completions = [], 0.0, 0.0, 0
        for arm, size in ((Arm.CONTROL, control), (Arm.TREATED, treated)):
            for (task, cost, factor, p_control, p_treated), part in zip(
                self.TASKS, self.MIX[arm], strict=True
            ):
                is_treated = arm is Arm.TREATED
                for day in range(days):
                    one = self._arm(
                        round(size * part / days),
                        cost * (factor if is_treated else 1),
                        p_treated if is_treated else p_control,
                    )
                    found.append(ArmDay(DAY + timedelta(days=day), "aurora", "essayist", task, arm, one))
                    if is_treated:
                        saved += one.completions * cost * (1 - factor)
                        won += one.completions * (p_treated - p_control)
                        completions += one.completions
        return found, saved, won / completions

    def _arm(self, n: int, cost: float, p: float) -> ArmSums:
        chance = self.chance
        m = chance.geometric(0.4, n)
        effect = np.repeat(np.exp(chance.normal(-0.08, 0.4, n)), m)
        each = cost * effect * np.exp(chance.normal(-0.18, 0.6, m.sum()))
        c = np.add.reduceat(each, np.cumsum(m) - m)
        return arm_sums(
            m, c, chance.binomial(m, chance.beta(p * 6, (1 - p) * 6, n)), chance.binomial(m, 0.02)
        )


@pytest.mark.parametrize(("control", "treated", "days"), [(200, 1000, 1), (600, 6000, 6)])
def test_the_intervals_cover_the_truth_as_often_as_they_say(control: int, treated: int, days: int) -> None:
    """In 500 runs of 95% intervals; three standard errors of the count are 2.9 points."""
    scene, runs = Scene(seed=7), 500
    money = success = safety = raw = 0
    values = []
    for _ in range(runs):
        found, saved, won = scene.draw(control, treated, days)
        told = savings(found)
        assert told.saved_usd
        assert told.success
        assert told.safety
        money += float(told.saved_usd.lower) <= saved <= float(told.saved_usd.upper)
        success += told.success.difference.lower <= won <= told.success.difference.upper
        safety += told.safety.difference.lower <= 0 <= told.safety.difference.upper
        values.append(float(told.saved_usd.value) / saved)
        kept, chosen = told.control, told.treated
        per_completion = float(kept.cost_usd) / kept.priced * chosen.priced - float(chosen.cost_usd)
        raw += float(told.saved_usd.lower) <= per_completion <= float(told.saved_usd.upper)
    assert 0.92 <= money / runs <= 0.975
    assert 0.92 <= success / runs <= 0.98
    # Few violations: the interval errs on the safe side.
    assert safety / runs >= 0.93
    assert np.mean(values) == pytest.approx(1, abs=0.02)
    # Without the adjustment for tasks it would be another figure altogether.
    assert raw / runs < 0.3
