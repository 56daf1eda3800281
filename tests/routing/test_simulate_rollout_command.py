"""manage.py simulate_rollout, from its options to its report."""

import csv
import json
import sys
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

SMALL = ("--runs", "6", "--steps", "20,50,100", "--conversations-per-hour", "6000", "--look-minutes", "15")


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("simulate_rollout", *SMALL, *arguments, "--no-progress", stdout=out)
    return out.getvalue()


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--format", "json"))


def test_it_tells_no_harm_beside_the_harm_that_was_asked_for() -> None:
    report = told("--drop", "0.2")
    none, large = report["findings"]
    assert (none["harm"], large["harm"]) == (0.0, 0.2)
    assert none["completed"]["value"] >= 0.5
    assert large["rolled_back"]["value"] == 1.0
    assert large["falsely_advanced"]["value"] == 0.0
    assert 0 < large["caught_treated"]["median"] < large["caught_conversations"]["median"]
    assert large["caught_curve"][-1] == 1.0
    assert none["rolled_back"]["lower"] <= none["rolled_back"]["value"] <= none["rolled_back"]["upper"]
    assert (report["plan"]["steps"], report["seed"]) == ([20.0, 50.0, 100.0], 1)


def test_the_text_is_a_table_with_the_curve() -> None:
    text = run("--drop", "0.2")
    assert text.startswith("Plan 20 -> 50 -> 100%, at least 60 min and 200 conversations per arm and step")
    assert "Truth: success 90%, safety_violations 0.2%, escalations 3%, slow 4%" in text
    assert "Rolled back within so many treated conversations, 20 points:" in text
    line = next(line for line in text.splitlines() if line.split()[:2] == ["20", "6"])
    assert "100.0 [61.0, 100.0]" in line


def test_csv_has_a_line_per_harm() -> None:
    rows = list(csv.DictReader(StringIO(run("--drop", "0.2", "--format", "csv"))))
    assert [row["harm"] for row in rows] == ["0.0", "0.2"]
    assert rows[1]["rolled_back"] == "1.0"
    assert rows[1]["completed_hours_median"] == ""


def test_a_run_that_is_not_over_in_time_is_unfinished() -> None:
    none, _ = told("--drop", "0.001", "--max-hours", "1", "--measure", "slow")["findings"]
    assert none["unfinished"]["value"] == 1.0
    assert none["completed_hours"] is None


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--drop", "5"), "no share"),
        (("--base", "x"), "no number"),
        (("--runs", "0"), "whole number"),
        (("--conversations-per-hour", "0"), "above 0"),
        (("--steps", "50,20"), "steps: step 20.0"),
        (("--min-conversations", "0"), "min_conversations"),
        (("--alpha", "2"), "alpha"),
        (("--holdout", "0"), "100% has no control"),
        (("--measure", "cost"), "invalid choice"),
    ],
)
def test_what_cannot_be_simulated_is_refused(arguments: tuple[str, ...], part: str) -> None:
    with pytest.raises(CommandError, match=part):
        run(*arguments)


def test_where_numpy_is_missing_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("simulating", "simulation_study", "simulation_report"):
        monkeypatch.delitem(sys.modules, f"routing.rollout.{module}", raising=False)
        monkeypatch.delattr(f"routing.rollout.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(CommandError, match="numpy is missing: install requirements-dev"):
        run()
