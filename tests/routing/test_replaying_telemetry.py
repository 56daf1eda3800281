"""manage.py replay from a scope's own telemetry in ClickHouse."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.models import ScopeDefault
from routing.logged.completions import completions_by_day, read_completions
from routing.logged.scope import Scope, Span
from routing.replaying.outcomes import read_outcomes
from routing.replaying.telemetry import outcomes_of
from telemetry.clickhouse import ClickHouse
from tests import factories
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HERE = Scope("aurora", "essayist")
SLA = ("--min-success", "0.5", "--max-p95-ms", "60000", "--max-safety", "0.5", "--min-samples", "3")
RANGE = ("--from", "2026-11-19T10:00", "--to", "2026-11-20T12:00")
COLUMNS = (
    "prompt_id,category,model,success,prompt_tokens,completion_tokens,cost_usd,latency_ms,recorded_on,"
    "score,outcome"
)


@pytest.fixture
def catalogue() -> None:
    factories.tenant()
    factories.tenant("borealis")
    factories.persona(default_profile=factories.profile("inc"))
    factories.profile("cheap")


def events() -> list[dict[str, Any]]:
    """24 conversations over a midnight, each called with two profiles; some fail, are graded, or have no price."""
    found = []
    for n in range(24):
        for profile, cost in (("inc", "0.01"), ("cheap", "0.0011" if n % 5 else None)):
            found.append(
                factories.event(
                    occurred_at=(NOW - timedelta(hours=24 - n, minutes=7)).isoformat(),
                    profile=profile,
                    conversation_id=f"c-{n:02d}",
                    task="code" if n % 2 else "essay",
                    success=n % 7 != 0,
                    error_code="timeout" if n == 14 else None,
                    cost_usd=cost,
                    latency_ms=500 + 10 * n,
                    accuracy=0.25 if n % 3 else None,
                )
            )
    return found


def as_csv(events: list[dict[str, Any]]) -> str:
    lines = [COLUMNS]
    for e in events:
        cells = (
            *(f"{e['task']} {e['conversation_id']}", e["task"], e["profile"], int(e["success"])),
            *(
                e["prompt_tokens"],
                e["completion_tokens"],
                e["cost_usd"] or "",
                e["latency_ms"],
                e["occurred_at"],
            ),
            *("" if e["accuracy"] is None else e["accuracy"], e["error_code"] or "ok"),
        )
        lines.append(",".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("replay", *arguments, "--no-progress", "--resamples", "20", stdout=out)
    return out.getvalue()


def test_a_file_and_telemetry_of_the_same_outcomes_give_the_same_report(
    catalogue: None, door: ClickHouse, tmp_path: Path
) -> None:
    made = events()
    # A copy that was sent before it was graded, another persona's and another tenant's calls change nothing.
    factories.persona("coder")
    others = [{**made[0], "event_id": factories.event()["event_id"], "persona": "coder"}]
    others += [{**made[1], "event_id": factories.event()["event_id"], "tenant": "borealis"}]
    run_pipeline(door, [{**made[3], "accuracy": 1.0, "success": False}, *others], NOW)
    run_pipeline(door, made, NOW + timedelta(seconds=1))
    file = tmp_path / "outcomes.csv"
    file.write_text(as_csv(made))

    read = outcomes_of(
        one for day in completions_by_day(door, HERE, Span.of(NOW - timedelta(days=2), NOW)) for one in day
    )
    assert sorted(
        (o.prompt_id, o.model, o.success, o.cost_usd, o.score, o.error, o.recorded_on) for o in read
    ) == sorted(
        (o.prompt_id, o.model, o.success, o.cost_usd, o.score, o.error, o.recorded_on)
        for o in read_outcomes(file)
    )
    for form in ("text", "json", "csv"):
        more = (*SLA, "--incumbent", "inc", "--splits", "2", "--exploration", "0.3", "--format", form)
        told = run("--tenant", "aurora", "--persona", "essayist", *RANGE, *more)
        assert told == run(str(file), "--persona", "essayist", *more)


def test_the_range_holds_its_start_and_not_its_end_over_midnights(catalogue: None, door: ClickHouse) -> None:
    times = [NOW - timedelta(hours=14), NOW - timedelta(hours=12), NOW - timedelta(hours=10)]
    run_pipeline(door, [factories.event(occurred_at=at.isoformat(), profile="inc") for at in times], NOW)
    whole = Span.of(times[0], times[2])
    assert [len(day) for day in completions_by_day(door, HERE, whole)] == [1, 1]
    assert whole.count_of_days == 2
    assert [c.occurred_at for c in read_completions(door, HERE, Span.of(times[2], NOW))] == [times[2]]


def test_an_event_told_again_under_another_persona_is_no_longer_this_ones(
    catalogue: None, door: ClickHouse
) -> None:
    factories.persona("coder")
    event = factories.event(occurred_at=(NOW - timedelta(minutes=3)).isoformat(), profile="inc")
    run_pipeline(door, [event], NOW)
    assert len(read_completions(door, HERE, Span.of(NOW - timedelta(hours=1), NOW))) == 1
    run_pipeline(door, [{**event, "persona": "coder"}], NOW + timedelta(seconds=1))
    assert read_completions(door, HERE, Span.of(NOW - timedelta(hours=1), NOW)) == []


def test_a_reported_violation_counts_whatever_the_task(catalogue: None, door: ClickHouse) -> None:
    at = (NOW - timedelta(minutes=3)).isoformat()
    run_pipeline(
        door,
        [
            factories.event(occurred_at=at, profile="inc", conversation_id=f"c-{n}", safety_violation=n == 0)
            for n in range(2)
        ]
        + [
            # A failed safety test that was reported as harmless is harmless.
            factories.event(
                occurred_at=at, profile="inc", conversation_id="c-3", task="safety_injection", success=False
            )
        ],
        NOW,
    )
    read = outcomes_of(read_completions(door, HERE, Span.of(NOW - timedelta(hours=1), NOW)))
    assert sorted((o.prompt_id, o.safety_violation) for o in read) == [
        ("general c-0", True),
        ("general c-1", False),
        ("safety_injection c-3", False),
    ]


def test_the_tenants_own_default_is_the_incumbent(catalogue: None, door: ClickHouse) -> None:
    run_pipeline(door, events(), NOW)
    asked = ("--tenant", "aurora", "--persona", "essayist", *RANGE, "--format", "json")
    assert json.loads(run(*asked))["studies"][0]["policy"]["incumbent"] == "inc"
    ScopeDefault.objects.create(
        tenant=factories.tenant(), persona=factories.persona(), profile=factories.profile("cheap")
    )
    assert json.loads(run(*asked))["studies"][0]["policy"]["incumbent"] == "cheap"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Give FILE, or --tenant, --persona and --from"),
        (("x.csv", "--tenant", "aurora"), "not both"),
        (("--tenant", "aurora"), "Name the scope: --tenant and --persona"),
        (("--tenant", "nobody", "--persona", "essayist", *RANGE), "There is no tenant 'nobody'"),
        (("--tenant", "aurora", "--persona", "nobody", *RANGE), "There is no persona 'nobody'"),
        (("--tenant", "aurora", "--persona", "essayist"), "Say since when: --from TIME"),
        (("--tenant", "aurora", "--persona", "essayist", "--from", "yesterday"), "no ISO 8601 date or time"),
        (
            ("--tenant", "aurora", "--persona", "essayist", "--from", "2026-11-02", "--to", "2026-11-01"),
            "--from must be before --to",
        ),
        (("--tenant", "aurora", "--persona", "essayist", *RANGE), "ClickHouse: "),
    ],
)
def test_what_is_asked_wrongly_or_cannot_be_read_is_told(
    catalogue: None, arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(CommandError, match=told):
        run(*arguments)


def test_a_range_without_completions_is_told(catalogue: None, door: ClickHouse) -> None:
    with pytest.raises(CommandError, match="There are no completions of aurora x essayist from 2026-11-19"):
        run("--tenant", "aurora", "--persona", "essayist", *RANGE)
