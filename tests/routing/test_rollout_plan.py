"""What a plan may be, and how wide its steps' margins are."""

import json
from typing import Any

import pytest

from routing.rollout.evidence import Measure
from routing.rollout.plan import Plan, PlanError


def test_a_plan_comes_back_from_json_as_it_was() -> None:
    plan = Plan(steps=(2.5, 100.0), min_minutes=5, min_conversations=40, alpha=0.01)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_what_is_left_out_of_a_plan_has_its_default() -> None:
    assert Plan.from_dict({}) == Plan()
    assert Plan.from_dict({"margins": {"success": 0.03}}).margins == {**Plan().margins, Measure.SUCCESS: 0.03}


@pytest.mark.parametrize(
    ("data", "field", "part"),
    [
        ({"steps": []}, "steps", "1 to 20 steps"),
        ({"steps": [5, 5]}, "steps", "rise from step to step"),
        ({"steps": [0, 5]}, "steps", "above 0"),
        ({"steps": [50, 101]}, "steps", "up to 100"),
        ({"steps": [True, 100]}, "steps", "percentages"),
        ({"steps": [float("nan")]}, "steps", "percentages"),
        ({"steps": "1,5"}, "steps", "list of percentages"),
        ({"steps": ["1"]}, "steps", "percentages"),
        ({"steps": 5}, "steps", "list of percentages"),
        ({"min_minutes": -1}, "min_minutes", "whole number"),
        ({"min_minutes": 1.5}, "min_minutes", "whole number"),
        ({"min_conversations": 0}, "min_conversations", "from 1"),
        ({"alpha": 0}, "alpha", "above 0"),
        ({"alpha": 0.6}, "alpha", "at most 0.5"),
        ({"alpha": "x"}, "alpha", "above 0"),
        ({"margins": {"success": 0}}, "margins", "above 0"),
        ({"margins": {"succes": 0.1}}, "margins", "no measure"),
        ({"margins": [1]}, "margins", "an object"),
        ({"margins": {"slow": None}}, "margins", "a share"),
        ({"tolerances": {"success": 0.02}}, "tolerances", "below its margin"),
        ({"tolerances": {"slow": -0.1}}, "tolerances", "at least 0"),
        ({"margin": 0.1}, "margin", "a plan has no 'margin'"),
        ([], "plan", "an object"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_names_what_is_wrong(data: Any, field: str, part: str) -> None:
    with pytest.raises(PlanError) as refused:
        Plan.from_dict(data)
    assert refused.value.field == field
    assert part in refused.value.message


def margins(plan: Plan, measure: Measure = Measure.SUCCESS) -> list[float]:
    return [plan.margin(step, measure) for step in range(len(plan.steps))]


def test_a_step_rules_out_what_the_next_share_would_make_of_a_harm() -> None:
    assert margins(Plan()) == pytest.approx([0.1, 0.08, 0.04, 0.02, 0.1])
    assert margins(Plan(), Measure.SAFETY) == pytest.approx([0.025, 0.02, 0.01, 0.005, 0.025])
    assert margins(Plan(steps=(10, 25))) == pytest.approx([0.08, 0.1])


def test_a_plan_of_one_step_has_only_that_to_rule_it_out_with() -> None:
    assert margins(Plan(steps=(100,))) == pytest.approx([0.02])
    assert margins(Plan(steps=(50,))) == pytest.approx([0.04])


def test_margins_stay_shares_however_wide() -> None:
    wide = Plan(margins={**Plan().margins, Measure.SLOW: 0.5})
    assert margins(wide, Measure.SLOW) == pytest.approx([0.99, 0.99, 0.99, 0.5, 0.99])
