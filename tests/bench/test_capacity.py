"""The capacity tables: arithmetic that a reader can repeat, and a page that says what the command prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.capacity.__main__ import read
from bench.capacity.model import (
    COSTS,
    EVENTS_PER_DAY,
    SELECTIONS_PER_SECOND,
    Step,
    events,
    scoring,
    selections,
)
from bench.capacity.table import LIFTS, tables

ROOT = Path(__file__).parents[2]
#: A hundred microseconds, or bytes, of everything.
EVEN = dict.fromkeys(COSTS, 100.0)


def amounts(step: Step) -> dict[str, float]:
    return {need.part: need.amount for need in step.needs}


def test_the_page_holds_what_the_command_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "bench.capacity", "--markdown"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    page = (ROOT / "docs" / "scaling.md").read_text()
    found = re.search(r"<!-- python -m bench.capacity --markdown -->\n(.*)<!-- end -->", page, re.DOTALL)
    assert found is not None
    assert found[1] == printed


def test_a_thousand_selections_a_second_of_a_hundred_microseconds_are_a_tenth_of_a_core() -> None:
    found = amounts(selections(EVEN, 1_000))
    assert found["web"] == pytest.approx(0.1)
    # The commit, and the mark that it is published.
    assert found["PostgreSQL"] == pytest.approx(0.2)
    assert found["publisher"] == pytest.approx(0.1)
    assert found["workers"] == 0
    # 100 bytes x 1,000 a second x three days.
    assert found["PostgreSQL's disk"] == pytest.approx(0.02592)


def test_workers_that_decide_themselves_cost_the_web_only_the_report() -> None:
    found = amounts(selections({**EVEN, "web_durable_us": 900, "report_us_per_decision": 30}, 1_000, "local"))
    assert found["web"] == pytest.approx(0.03)
    assert found["workers"] == pytest.approx(0.1)


def test_a_running_bucket_is_read_again_every_five_seconds() -> None:
    # Each event is in on average half of the bucket's 60 rounds: 30 x 100 us, and 100 us to take it.
    assert amounts(events(EVEN, 86_400))["ClickHouse"] == pytest.approx(31e-4)
    assert amounts(events(EVEN, 86_400, every_seconds=60))["ClickHouse"] == pytest.approx(3.5e-4)


def test_the_bottleneck_is_the_part_that_is_fullest_beyond_seventy_percent() -> None:
    assert selections(EVEN, 6_999).bottleneck is None
    found = selections(EVEN, 7_001).bottleneck
    assert found is not None
    assert (found.part, found.limit) == ("publisher", 1)
    slow = selections({**EVEN, "publish_us_per_decision": 1, "postgres_us_per_selection": 9_900}, 7_000)
    assert slow.bottleneck is not None
    assert slow.bottleneck.part == "PostgreSQL"


def test_tenants_are_divided_until_no_part_is_full() -> None:
    # The publisher alone is full at 7,000 a second.
    assert [selections(EVEN, rate).deployments(("publisher",)) for rate in (100, 6_999, 14_001)] == [1, 1, 3]
    assert selections(EVEN, 1_000_000).deployments(()) == 1


def test_scoring_is_divided_to_be_done_in_half_a_minute() -> None:
    found = scoring({**EVEN, "scoring_ms_per_scope": 1, "assemble_us_per_scope": 200}, 100_000)
    # 100 s of work: 4 x 25 s; then 20 s for one process.
    assert (found.partitions, found.assembly_seconds, found.deployments) == (4, 20, 1)
    assert scoring(EVEN, 1).partitions == 1


def test_every_part_that_can_be_full_has_something_that_lifts_it() -> None:
    steps = [selections(EVEN, rate) for rate in SELECTIONS_PER_SECOND]
    steps += [events(EVEN, per_day) for per_day in EVENTS_PER_DAY]
    assert {need.part for step in steps for need in step.needs if need.limit} == set(LIFTS)


def test_costs_must_be_those_that_are_asked_for_and_null_is_not_measured() -> None:
    whole = {name: {"value": 1} for name in COSTS}
    with pytest.raises(ValueError, match="local_evaluation_us"):
        read({"costs": {name: one for name, one in whole.items() if name != "local_evaluation_us"}})
    with pytest.raises(ValueError, match="other"):
        read({"costs": {**whole, "other": {"value": 1}}})
    told = read({"costs": {**whole, "web_write_behind_us": {"value": None}}})
    assert "not measured" in tables(told)
