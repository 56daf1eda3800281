"""The report of a load test: a section a form, and what is wrong in plain sight."""

from pathlib import Path

import pytest

from load.before_after import estimate, tables
from load.figures import Asked, count_of, summaries
from load.page import told, update
from load.result import Result


def result(title: str, **fields: object) -> Result:
    return Result(title, summaries([Asked("select", 1.0, 5.0), Asked("select", 2.0, 7.0)]), **fields)  # type: ignore[arg-type]


def test_a_section_tells_requests_counts_and_the_machine() -> None:
    text = told("rate", [result("2 requests", counts=[count_of("decisions", 2, 2)], facts=["A fact."])])
    assert "| select | 2 | 0 | - | - | 5 ms | 7 ms | 7 ms | 7 ms |" in text
    assert "| decisions | 2 | 0 | 0 | 0 |" in text
    assert " cores (" in text
    assert "A fact." in text
    assert "Nothing is wrong." in text


def test_what_is_wrong_is_listed() -> None:
    text = told("rate", [result("x", wrong=["decisions: of 2 1 missing"])])
    assert "**Wrong:**" in text
    assert "- decisions: of 2 1 missing" in text
    assert "Nothing is wrong" not in text


def test_a_form_that_runs_again_takes_its_own_sections_place_and_leaves_the_others(tmp_path: Path) -> None:
    page = tmp_path / "reports" / "load.md"
    update(page, "soak", [result("first soak")])
    update(page, "rate", [result("a rate"), result("its second part")])
    update(page, "soak", [result("second soak")])
    text = page.read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# Load",
        "## rate",
        "### a rate",
        "### its second part",
        "## soak",
        "### second soak",
    ]
    update(page, "soak", [result("second soak")])
    assert page.read_text().splitlines()[:8] == text.splitlines()[:8]


@pytest.mark.parametrize(
    ("one", "sign", "expected"),
    [
        ({"value": -0.5, "lower": -0.6, "upper": -0.4}, "+", "-50.0 [-60.0, -40.0]*"),
        ({"value": 0.1, "lower": -0.1, "upper": 0.3}, "+", "+10.0 [-10.0, +30.0]"),
        ({"value": 0.1, "lower": 0.05, "upper": 0.3}, "", "10.0 [5.0, 30.0]"),
        (None, "+", "-"),
    ],
)
def test_an_estimate_has_its_interval_and_a_star_where_zero_is_ruled_out(
    one: dict[str, float] | None, sign: str, expected: str
) -> None:
    assert estimate(one, 100, 1, sign) == expected


def test_a_comparison_tells_each_side_and_each_difference() -> None:
    cost = {"value": 0.01, "lower": 0.009, "upper": 0.011}
    side = {
        "conversations": 9,
        "completions": 18,
        "cost": cost,
        "success": None,
        "p95": None,
        "reasons": {"ranked": 1.0},
    }
    change = {"cost_share": cost, "success": None, "p95": None}
    sides, changes = tables(
        {
            "sides": {"before": side, "selected": side, "held_out": side},
            "changes": {"selected": change, "held_out": change},
        }
    )
    assert sides[1][0] == ("before: flag off", "9 / 18", "10.00 [9.00, 11.00]", "-", "-", "ranked 100%")
    assert [row[1] for row in changes[1]] == ["+1.0 [+0.9, +1.1]*"] * 2
