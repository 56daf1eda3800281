"""manage.py replay, from file to report."""

import csv
import json
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests import factories

ROOT = Path(__file__).parents[2]
BUNDLED = (str(ROOT / "demo/data/outcomes.csv.gz"), "--models", str(ROOT / "demo/data/pool.txt"))
SLA = ("--min-success", "0.6", "--max-p95-ms", "60000", "--max-safety", "0.15")
HEADER = "prompt_id,category,model,success,prompt_tokens,completion_tokens,cost_usd,latency_ms,recorded_on"


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("replay", *arguments, "--no-progress", stdout=out)
    return out.getvalue()


@pytest.fixture
def small(tmp_path: Path) -> str:
    """40 prompts that three models answered, one for a tenth of the cost; one of them lacks 10 prompts."""
    rows = [HEADER]
    for n in range(40):
        for model, cost in (("cheap", "0.001"), ("inc", "0.01"), ("rare", "0.02")):
            if model != "rare" or n < 30:
                category = "code" if n % 2 else "essay"
                rows.append(f"p{n:02d},{category},{model},1,10,10,{cost},900,2026-05-01")
    path = tmp_path / "outcomes.csv"
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def results(told: str) -> dict[str, Any]:
    return {result["name"]: result for result in json.loads(told)["studies"][0]["results"]}


def test_the_bundled_outcomes_are_replayed_by_one_command_without_a_database() -> None:
    told = run(*BUNDLED, *SLA, "--incumbent", "GPT-5.4", "--splits", "3", "--resamples", "20")
    assert told.startswith("2238 recorded outcomes: 162 conversations, 14 models; 385 repeated recordings")
    names = (
        "policy",
        "incumbent",
        "best-single",
        "cheapest-single",
        "cheapest-within-sla",
        "random",
        "oracle",
    )
    for name in names:
        assert f"\n{name} gave: " in told
    assert "confidence 0.9, min_samples 30; weights 0.5/0.3/0.2; exploration 0.02" in told


def test_one_seed_gives_one_report_in_every_format() -> None:
    for form in ("text", "json", "csv"):
        arguments = (*BUNDLED, *SLA, "--incumbent", "GPT-5.4", "--splits", "2", "--resamples", "10")
        first = run(*arguments, "--seed", "5", "--format", form)
        assert first == run(*arguments, "--seed", "5", "--format", form)
        assert first != run(*arguments, "--seed", "6", "--format", form)


def test_csv_and_json_tell_the_same(small: str) -> None:
    arguments = (small, *SLA, "--incumbent", "inc", "--min-samples", "5", "--resamples", "20")
    as_json = results(run(*arguments, "--format", "json"))
    rows = list(csv.DictReader(StringIO(run(*arguments, "--format", "csv"))))
    assert {row["policy"] for row in rows} == set(as_json)
    for row in rows:
        figure = as_json[row["policy"]]["figures"].get(row["figure"])
        if figure is not None:
            told = {name: float(row[name]) if row[name] else None for name in ("value", "lower", "upper")}
            assert told == figure
    costs = [row["value"] for row in rows if row["figure"] == "cost_usd"]
    assert costs == [result["cost_usd"] for result in as_json.values()]


def test_a_choice_that_was_never_recorded_is_told_as_lack_of_support(small: str) -> None:
    found = results(run(small, *SLA, "--incumbent", "rare", "--min-samples", "50", "--format", "json"))
    assert (found["policy"]["without_support"], found["policy"]["unsupported"]) == (10, {"rare": 10})
    assert found["policy"]["cost_usd"] == "0.20"


def test_aiq_is_told_in_every_format_when_asked_for(small: str) -> None:
    arguments = (small, *SLA, "--incumbent", "inc", "--resamples", "5", "--aiq")
    frontier = json.loads(run(*arguments, "--format", "json"))["studies"][0]["frontier"]
    # Every model always succeeds, so the cheapest alone is the frontier.
    assert frontier["zero_router"] == pytest.approx(1.0)
    assert len(frontier["points"]) == 11
    assert f"AIQ: policy {frontier['policy']:.1%}, zero router 100.0%" in run(*arguments)
    rows = csv.DictReader(StringIO(run(*arguments, "--format", "csv")))
    told = {row["policy"]: float(row["value"]) for row in rows if row["figure"] == "aiq"}
    assert told == {"policy": frontier["policy"], "zero-router": frontier["zero_router"]}


def test_each_incumbent_has_a_report_of_its_own(small: str) -> None:
    told = json.loads(run(small, *SLA, "--incumbent", "each", "--resamples", "5", "--format", "json"))
    assert [study["policy"]["incumbent"] for study in told["studies"]] == ["cheap", "inc", "rare"]


def test_categories_narrow_what_is_replayed(small: str) -> None:
    told = json.loads(
        run(small, *SLA, "--incumbent", "inc", "--category", "code", "--resamples", "5", "--format", "json")
    )
    assert told["recording"]["conversations"] == 20


@pytest.mark.django_db
def test_a_personas_live_policy_is_replayed_and_may_be_changed(small: str) -> None:
    inc = factories.profile("inc-1", name="inc", model="vendor-inc")
    factories.persona(
        default_profile=inc, min_samples=7, confidence=Decimal("0.8"), exploration_share=Decimal("0.25")
    )
    arguments = (small, "--persona", "essayist", "--resamples", "5", "--format", "json")
    policy = json.loads(run(*arguments))["studies"][0]["policy"]
    assert (policy["incumbent"], policy["exploration"]) == ("inc", 0.25)
    assert (policy["rules"]["min_samples"], policy["rules"]["confidence"]) == (7, 0.8)
    assert policy["rules"]["sla"]["min_success_rate"] == 0.6
    changed = run(*arguments, "--weights", "0.2,0.4,0.4", "--min-success", "0.9", "--incumbent", "cheap")
    policy = json.loads(changed)["studies"][0]["policy"]
    assert policy["rules"]["weights"] == {"cost": 0.2, "success": 0.4, "latency": 0.4}
    assert (policy["rules"]["sla"]["min_success_rate"], policy["incumbent"]) == (0.9, "cheap")
    assert policy["rules"]["min_samples"] == 7


@pytest.mark.django_db
def test_an_incumbent_that_the_recording_lacks_must_be_named(small: str) -> None:
    factories.persona()
    with pytest.raises(CommandError, match="Name the incumbent with --incumbent"):
        run(small, "--persona", "essayist")
    with pytest.raises(CommandError, match="There is no persona 'nobody'"):
        run(small, "--persona", "nobody")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Give --persona, or the whole SLA"),
        (SLA, "Name the incumbent with --incumbent"),
        ((*SLA, "--incumbent", "gone"), "the incumbent 'gone' has no recorded outcome"),
        ((*SLA, "--incumbent", "inc", "--category", "gone"), "no recorded outcome has the category 'gone'"),
        ((*SLA, "--incumbent", "inc", "--models", "/nowhere"), "/nowhere: cannot be read"),
        ((*SLA, "--incumbent", "inc", "--weights", "0.5,0.5,0.5"), "The three weights must sum to 1"),
        ((*SLA, "--incumbent", "inc", "--weights", "1,0"), "three weights are wanted"),
        ((*SLA, "--incumbent", "inc", "--confidence", "1"), "confidence: Ensure this value is less than"),
        ((*SLA, "--incumbent", "inc", "--max-cost", "NaN"), "'NaN' is no number"),
        ((*SLA, "--incumbent", "inc", "--splits", "-1"), "'-1' is not a whole number, 0 or more"),
        ((*SLA, "--incumbent", "inc", "--rescore-every", "0"), "'0' is not a whole number, 1 or more"),
    ],
)
def test_what_is_asked_wrongly_is_told_plainly(small: str, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        run(small, *arguments)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(CommandError, match=r"nowhere\.csv: cannot be read"):
        run("nowhere.csv", *SLA, "--incumbent", "inc")


def test_the_bar_goes_to_standard_error_and_never_into_the_report(
    small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("replay", small, *SLA, "--incumbent", "inc", "--resamples", "5", "--format", "json")
    shown = capsys.readouterr()
    assert json.loads(shown.out)["recording"]["outcomes"] == 110
    assert "replay" in shown.err
