"""`make report`: the demo's load with the flag off, then on."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from demo.provider import Call as ProviderCall
from demo.provider import DemoProvider
from demo.report.calls import Call, Side, calls_of
from demo.report.criteria import Verdict, cheaper, judge, no_fewer, no_more
from demo.report.figures import LEAST, change, side_of
from demo.report.traffic import TURNS, StretchedOutbox, talks
from routing.logged.completions import Completion
from routing.logged.scope import Scope
from routing.logged.selections import LoggedSelection
from routing.savings_intervals import Estimate
from worker.outbox import Kind

ROOT = Path(__file__).parents[2]
SCOPE = Scope("aurora", "essayist")
AT = datetime(2026, 11, 25, tzinfo=UTC)
_READ = """
import json, sys, django
django.setup()
from telemetry.clickhouse import get_clickhouse
rows = get_clickhouse().query('''
    SELECT splitByChar('-', conversation_id)[1] AS phase, count() AS n, toString(sum(cost_usd)) AS usd
    FROM (SELECT * FROM completions ORDER BY received_us DESC LIMIT 1 BY tenant, event_id) GROUP BY phase''')
json.dump({row["phase"]: [row["n"], row["usd"]] for row in rows}, sys.stdout)
"""


def completion(conversation: str, decision: UUID | None = None, **fields: Any) -> Completion:
    usual: dict[str, Any] = {
        "event_id": uuid4(),
        "occurred_at": AT,
        "task": "essay",
        "profile": "gpt-5.4",
        "conversation_id": conversation,
        "decision_id": decision,
        "success": True,
        "error_code": None,
        "latency_ms": 1000,
        "prompt_tokens": 10,
        "completion_tokens": 10,
        "cost_usd": Decimal("0.01"),
        "accuracy": None,
        "escalated": False,
        "safety_violation": False,
    }
    return Completion(**{**usual, **fields})


def selection(conversation: str, reason: str) -> LoggedSelection:
    return LoggedSelection(uuid4(), AT, "essay", conversation, "gpt-5.4", reason, 1.0, "1", (), None)


def calls(side: Side, costs: Sequence[str], **fields: Any) -> list[Call]:
    """A conversation of one call for each cost."""
    return [
        Call(side, SCOPE, "ranked", completion(f"c-{number}", cost_usd=Decimal(cost), **fields))
        for number, cost in enumerate(costs)
    ]


def run(*options: str, folder: Path) -> "subprocess.Popen[str]":
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "demo.report", *options],
        cwd=ROOT,
        env={**environment, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def table(page: str, heading: str) -> dict[str, list[str]]:
    """The first table under a heading, by its first column."""
    rows = re.findall(r"^\| (.+) \|$", page.split(f"## {heading}")[1].split("\n## ")[0], re.MULTILINE)
    return {cells[0]: cells[1:] for cells in (row.split(" | ") for row in rows)}


@pytest.mark.slow
def test_its_figures_are_those_that_clickhouse_holds(tmp_path: Path) -> None:
    out, kept = tmp_path / "report.md", tmp_path / "kept"
    options = (
        "--conversations",
        "24",
        "--speed",
        "200",
        "--seed",
        "3",
        "--out",
        str(out),
        "--keep",
        str(kept),
    )
    process = run(*options, folder=tmp_path)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    page = out.read_text()

    settings = {"DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(kept), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _READ],
        cwd=ROOT,
        env={**settings, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    stored = {phase: (n, Decimal(usd)) for phase, (n, usd) in json.loads(done.stdout).items()}
    sums = {
        name: (int(count.replace(",", "")), Decimal(usd))
        for name, (count, usd) in table(page, "Do the figures add up?").items()
        if name not in ("completions", "---")
    }
    assert sums["before"] == stored["before"]
    assert _add(sums["after"], sums["held out"]) == stored["after"]
    assert sums["history"] == stored["recorded"]
    assert sums["together"] == sums["ClickHouse's roll-ups"] == _add(*stored.values())
    assert "They agree to the last digit" in page
    # Figures of the first table, put together again.
    sides = re.findall(r"^\| all \| (before|after) \| (\d+) / (\d+) \| ([\d.]+) ", page, re.MULTILINE)
    assert [(name, int(count)) for name, _, count, _ in sides] == [
        ("before", stored["before"][0]),
        ("after", sums["after"][0]),
    ]
    for name, _, count, cost in sides:
        assert float(cost) * int(count) / 1000 == pytest.approx(float(sums[name][1]), rel=0.01)
    # With the flag off nobody is chosen for; with it on somebody is.
    assert any("ranked" in cells[-1] for cells in table(page, "What was given").values())
    criteria = table(page, "The mission's criteria")
    assert len(criteria) == 7  # with the table's head and rule
    verdicts = {cells[-1].split("**")[1] for cells in criteria.values() if "**" in cells[-1]}
    assert verdicts <= {verdict.value for verdict in Verdict}


def _add(*parts: tuple[int, Decimal]) -> tuple[int, Decimal]:
    return sum(count for count, _ in parts), sum((usd for _, usd in parts), Decimal(0))


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    process = run("--out", str(out), folder=tmp_path)
    assert process.stderr
    for line in process.stderr:
        if "accepted" in line:
            break
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "nothing was written" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [("--conversations", "1"), ("--holdout", "0.95"), ("--speed", "0.5"), ("--keep", "/")]
)
def test_a_bad_option_is_a_clear_error(options: tuple[str, str], tmp_path: Path) -> None:
    process = run(*options, folder=tmp_path)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 2
    assert options[0] in told
    assert "Traceback" not in told


def test_the_committed_report_is_one_that_added_up() -> None:
    page = (ROOT / "docs" / "reports" / "cost-performance.md").read_text()
    assert "They agree to the last digit" in page
    sums = table(page, "Do the figures add up?")
    assert sums["together"] == sums["ClickHouse's roll-ups"]


def test_both_phases_of_a_seed_have_the_same_conversations_by_other_names() -> None:
    before, after = talks("before", 50, 1), talks("after", 60, 1)
    assert [(t.tenant, t.persona, t.task, t.turns) for t in before] == [
        (t.tenant, t.persona, t.task, t.turns) for t in after[:50]
    ]
    assert not {t.name for t in before} & {t.name for t in after}
    assert {t.turns for t in after} == set(TURNS)
    assert len({t.tenant for t in after}) == 3
    assert before != talks("before", 50, 2)


def test_what_a_call_gives_depends_on_its_message_and_not_on_the_calls_before_it() -> None:
    def given(provider: DemoProvider, *texts: str) -> list[str]:
        found = []
        for text in texts:
            call = ProviderCall("gpt-5.4", False, None, [{"role": "user", "content": text}])
            provider.take(call, {"task": "essay"})
            assert call.outcome
            found.append(call.outcome.prompt_id)
        return found

    texts = [f"t{number}" for number in range(20)]
    first = given(DemoProvider(seed=1, by_message=True), *texts)
    assert first == given(DemoProvider(seed=1, by_message=True), *reversed(texts))[::-1]
    assert first != given(DemoProvider(seed=2, by_message=True), *texts)
    assert len(set(first)) > 1


def test_the_stretched_outbox_tells_latencies_as_if_nobody_had_hurried(tmp_path: Path) -> None:
    outbox = StretchedOutbox(tmp_path, 20)
    assert outbox.put(Kind.COMPLETION, {"latency_ms": 51}, key="a")
    assert not outbox.put(Kind.COMPLETION, {"latency_ms": 51}, key="a")
    outbox.put(Kind.DECISION, {"latency_ms": 7})
    assert [json.loads(item.payload) for item in outbox.oldest(Kind.COMPLETION)] == [{"latency_ms": 1020}]
    assert [json.loads(item.payload) for item in outbox.oldest(Kind.DECISION)] == [{"latency_ms": 7}]
    assert outbox.completions == 1
    outbox.close()


def test_a_conversation_is_held_out_whole_and_others_are_passed_over() -> None:
    off, held, ranked = (
        selection("before-1-1", "flag_off"),
        selection("after-1-1", "holdout"),
        selection("after-1-2", "ranked"),
    )
    found = calls_of(
        SCOPE,
        [off, held, ranked],
        [
            completion("before-1-1", off.decision_id),
            completion("after-1-1", held.decision_id),
            completion("after-1-1"),
            completion("after-1-2", ranked.decision_id),
            completion("recorded-7"),
        ],
    )
    assert [(call.side, call.reason) for call in found] == [
        (Side.BEFORE, "flag_off"),
        (Side.HELD_OUT, "holdout"),
        (Side.HELD_OUT, None),
        (Side.SELECTED, "ranked"),
    ]


def test_costs_are_compared_as_computed_by_hand() -> None:
    # Ten conversations of one call: the mean 0.03 and 0.01, with deviations of 0.01 and 0.005 by turns.
    before = side_of(calls(Side.BEFORE, ["0.02", "0.04"] * 5), "1")
    after = side_of(calls(Side.SELECTED, ["0.005", "0.015"] * 5), "2")
    found = change(before, after)
    assert found.cost and found.cost_share  # noqa: PT018
    assert before.cost_per_completion
    assert before.cost_per_completion.value == pytest.approx(0.03)
    # The mean's variance is 10/9 * 10 * 0.01^2 / 10^2; t with 9 degrees of freedom is 2.262.
    half = 2.262 * (10 / 9 * 10 * 0.01**2 / 100) ** 0.5
    assert before.cost_per_completion.upper == pytest.approx(0.03 + half, rel=1e-3)
    assert found.cost.value == pytest.approx(-0.02)
    assert found.cost_share.value == pytest.approx(-2 / 3)
    assert before.spent == Decimal("0.30")
    assert found.cost_share.lower < -2 / 3 < found.cost_share.upper < 0


def test_p95_is_the_nearest_rank_and_its_interval_is_the_same_for_one_seed() -> None:
    made = [
        Call(Side.BEFORE, SCOPE, "flag_off", completion(f"c-{number}", latency_ms=number * 100))
        for number in range(1, 41)
    ]
    found = side_of(made, "1")
    assert found.p95
    assert found.p95.value == 3800
    assert found.p95.lower <= 3800 <= found.p95.upper <= 4000
    assert found.p95 == side_of(made, "1").p95


def test_too_few_conversations_have_no_figures() -> None:
    few = side_of(calls(Side.BEFORE, ["0.01"] * (LEAST - 1)), "1")
    assert (few.cost_per_completion, few.success, few.p95) == (None, None, None)
    enough = side_of(calls(Side.BEFORE, ["0.01"] * LEAST), "1")
    assert enough.success
    assert change(few, enough).cost is None
    assert (few.conversations, few.completions) == (LEAST - 1, LEAST - 1)


def test_shares_and_reasons_are_of_completions() -> None:
    made = [
        *calls(Side.SELECTED, ["0.01"] * 3),
        Call(Side.SELECTED, SCOPE, None, completion("x", profile="other")),
    ]
    found = side_of(made, "1")
    assert found.shares == {"gpt-5.4": 0.75, "other": 0.25}
    assert found.reasons == {"ranked": 0.75, "none": 0.25}


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(-0.3, -0.15, Verdict.MET), (-0.3, -0.14, Verdict.CANNOT_TELL), (-0.14, 0.1, Verdict.NOT_MET)],
)
def test_fifteen_percent_is_judged_by_the_whole_interval(
    lower: float, upper: float, verdict: Verdict
) -> None:
    assert cheaper(Estimate((lower + upper) / 2, lower, upper)) is verdict


@pytest.mark.parametrize(
    ("lower", "upper", "verdict"),
    [(-0.01, 0.02, Verdict.MET), (-0.01, 0.021, Verdict.CANNOT_TELL), (0.001, 0.01, Verdict.NOT_MET)],
)
def test_a_rate_did_not_rise_when_two_points_are_ruled_out(
    lower: float, upper: float, verdict: Verdict
) -> None:
    assert no_more(Estimate((lower + upper) / 2, lower, upper)) is verdict
    assert no_fewer(Estimate(-(lower + upper) / 2, -upper, -lower)) is verdict
    assert no_more(None) is no_fewer(None) is cheaper(None) is Verdict.CANNOT_TELL


def test_escalations_that_nobody_recorded_prove_nothing() -> None:
    def verdict(**fields: Any) -> tuple[Verdict, str]:
        many = ["0.01"] * 400
        before = side_of(calls(Side.BEFORE, many), "1")
        after = side_of(calls(Side.SELECTED, many, **fields), "2")
        pair = (before, after, change(before, after))
        [found] = [one for one in judge(pair, pair) if "escalations" in one.asked]
        return found.verdict, found.because

    assert verdict()[0] is Verdict.NOT_RECORDED
    assert "no escalation" in verdict()[1]
    assert verdict(escalated=True) == (Verdict.NOT_MET, "")
