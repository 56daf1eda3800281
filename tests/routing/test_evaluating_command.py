"""manage.py evaluate, from logged decisions to the report."""

import csv
import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from routing.events import publish
from telemetry.clickhouse import ClickHouse
from tests import factories
from tests.routing.cases import totals
from tests.routing.scenes import ASKED, flip, scope, snapshot
from tests.telemetry.engines import CHDB
from tests.telemetry.pipeline import run_pipeline

# The reader is tried on each engine by its own tests.
pytestmark = [pytest.mark.django_db, pytest.mark.parametrize("clickhouse_url", [CHDB], indirect=True)]
SCOPE = ("--tenant", "aurora", "--persona", "essayist")
COSTS = {"incumbent": "0.02", "cheap": "0.002", "dear": "0.01", "new": "0.004"}


def run(*arguments: str) -> str:
    out = StringIO()
    since = (timezone.now() - timedelta(hours=1)).isoformat()
    call_command("evaluate", *SCOPE, "--from", since, *arguments, "--no-progress", stdout=out)
    return out.getvalue()


def told(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--format", "json"))


def decisions(client: Client, conversations: int, **persona: Any) -> list[dict[str, Any]]:
    """Two decisions each of aurora x essayist: cheap wins, dear is second, new is not proved."""
    scope(**persona)
    for slug in ("dear", "new"):
        factories.profile(slug)
    flip(100)
    snapshot(
        incumbent=totals(cost="0.02"),
        cheap=totals(cost="0.002"),
        dear=totals(cost="0.01"),
        new=totals(n=5, cost="0.004"),
    )
    key = factories.key("select")
    return [
        client.post(
            "/api/v1/selections",
            {**ASKED, "conversation_id": f"c-{n // 2}"},
            content_type="application/json",
            headers=key,
        ).json()
        for n in range(conversations * 2)
    ]


def report(door: ClickHouse, made: Sequence[dict[str, Any]]) -> None:
    """Each decision's completion at its profile's cost; every third fails."""
    now = timezone.now()
    events = [
        factories.event(
            occurred_at=now.isoformat(),
            profile=one["profile"]["slug"],
            conversation_id=one["conversation_id"],
            decision_id=one["decision_id"],
            cost_usd=COSTS[one["profile"]["slug"]],
            success=n % 3 > 0,
        )
        for n, one in enumerate(made)
    ]
    run_pipeline(door, events, now)
    while publish(door, most=500):
        pass


SHARES = {"exploration_share": Decimal("0.4"), "holdout_share": Decimal("0.3")}


def test_a_candidate_with_other_shares_is_estimated_from_the_log(client: Client, door: ClickHouse) -> None:
    made = decisions(client, 110, **SHARES)
    report(door, made[:-1])
    found = told("--exploration", "0")
    assert found["overlap"]["verdict"] == "adequate"
    assert (found["overlap"]["decisions"], found["overlap"]["conversations"]) == (219, 110)
    assert found["left_out"]["no_completion"] == 1
    assert found["gave"] == pytest.approx({"cheap": 0.42, "incumbent": 0.3, "new": 0.28})
    assert found["gives"] == pytest.approx({"cheap": 0.7, "incumbent": 0.3})
    cost = found["figures"]["cost_per_decision"]
    given = [float(COSTS[one["profile"]["slug"]]) for one in made[:-1]]
    assert cost["logged"]["value"] == pytest.approx(sum(given) / 219)
    # By hand: what was given weighs 0.7 / 0.42, 1 and 0.
    weights = [
        {"cheap": 0.7 / 0.42, "incumbent": 1.0, "new": 0.0}[one["profile"]["slug"]] for one in made[:-1]
    ]
    weighted = sum(w * c for w, c in zip(weights, given, strict=True))
    assert cost["ips"]["value"]["value"] == pytest.approx(weighted / 219)
    assert cost["snips"]["value"]["value"] == pytest.approx(weighted / sum(weights))
    # Costs hang on the profile alone, which the model knows but for the little it shrinks: 0.3 x 0.02 + 0.7 x 0.002.
    assert cost["dr"]["value"]["value"] == pytest.approx(0.0074, rel=0.05)


def test_text_and_csv_tell_what_json_tells(client: Client, door: ClickHouse) -> None:
    report(door, decisions(client, 40, **SHARES))
    found = told("--exploration", "0")
    rows = list(csv.DictReader(StringIO(run("--exploration", "0", "--format", "csv"))))
    assert len(rows) == 16
    for row in rows:
        figure = found["figures"][row["figure"]]
        wanted = figure["logged"] if row["estimator"] == "logged" else figure[row["estimator"]]["value"]
        for name in ("value", "standard_error", "lower", "upper"):
            assert float(row[name]) == wanted[name]
        if row["estimator"] != "logged":
            assert float(row["difference_upper"]) == figure[row["estimator"]]["difference"]["upper"]
    text = run("--exploration", "0")
    assert "80 logged decisions of 40 conversations are evaluated." in text
    assert "exploration 0, holdout 0.3" in text
    cost = found["figures"]["cost_per_decision"]["dr"]["value"]
    assert f"{cost['value'] * 1000:.3f} [{cost['lower'] * 1000:.3f}, {cost['upper'] * 1000:.3f}]" in text


def test_what_the_log_could_not_have_given_is_named(client: Client, door: ClickHouse) -> None:
    report(door, decisions(client, 20, **SHARES))
    # The proved second is never explored, so nothing is logged of it.
    text = run("--weights", "0,0,1", "--max-cost", "1", "--incumbent", "dear", "--exploration", "0")
    assert "CANNOT BE TOLD without assumptions: the candidate gives what the log could not have given" in text
    assert "dear " in text.split("could not have given: ")[1].splitlines()[0]
    assert "--pool" in text
    assert "DR     cannot be told" in text


def test_a_log_that_left_nothing_to_chance_says_so(client: Client, door: ClickHouse) -> None:
    report(door, decisions(client, 15))
    text = run("--min-success", "0.95")
    assert "Nothing was left to chance: raise the persona's exploration or holdout share" in text
    # The same policy needs no chance.
    assert "Overlap" in run()
    assert told()["figures"]["success_rate"]["dr"]["difference"]["value"] == pytest.approx(0.0)


def test_scores_that_do_not_follow_from_the_archive_are_made_anew_from_roll_ups(
    client: Client, door: ClickHouse
) -> None:
    report(door, decisions(client, 15, **SHARES))
    # Roll-ups hold only these few completions, and none before the snapshot: nobody is proved.
    found = told("--confidence", "0.8", "--exploration", "0")
    assert found["gives"] == {"incumbent": 1.0}
    assert found["candidate"]["rules"]["confidence"] == 0.8


def test_weights_may_be_cut_and_decisions_pooled(client: Client, door: ClickHouse) -> None:
    report(door, decisions(client, 30, **SHARES))
    found = told("--exploration", "0", "--clip", "1.5", "--pool")
    assert (found["clip"], found["pooled"], found["overlap"]["largest_weight"]) == (1.5, True, 1.5)
    assert found["overlap"]["clipped"] > 0
    assert told("--exploration", "0", "--holdout", "0")["gives"] == {"cheap": pytest.approx(1.0)}
    assert "Pooled: a profile's outcomes at a task" in run("--pool")


def test_what_cannot_be_evaluated_is_told(client: Client, door: ClickHouse) -> None:
    made = decisions(client, 2)
    with pytest.raises(CommandError, match="There are no logged decisions of aurora x essayist from"):
        run()
    report(door, made[:0])
    with pytest.raises(
        CommandError, match=r"None of the logged decisions .* can be evaluated: no_completion 4"
    ):
        run()
    factories.tenant("borealis")
    with pytest.raises(CommandError, match="There are no logged decisions of borealis x essayist"):
        call_command("evaluate", "--tenant", "borealis", "--persona", "essayist", "--from", "2026-01-01")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--tenant", "nobody"), "There is no tenant 'nobody'"),
        (("--persona", "nobody"), "There is no persona 'nobody'"),
        (("--incumbent", "nobody"), "There is no profile 'nobody'"),
        (("--weights", "1,1,1"), "The three weights must sum to 1"),
        (("--clip", "0.5"), "1 or more is wanted"),
        (("--holdout", "2"), "'2' is no share: 0 to 1"),
        (("--to", "2020-01-01"), "--from must be before --to"),
        (("--from", "2026-13-01"), "no ISO 8601 date or time"),
    ],
)
def test_what_is_asked_wrongly_is_told_plainly(
    clickhouse_url: str, arguments: tuple[str, ...], match: str
) -> None:
    scope()
    with pytest.raises(CommandError, match=match):
        run(*arguments)


def test_while_clickhouse_is_away_it_says_so(clickhouse_url: str) -> None:
    scope()
    with pytest.raises(CommandError, match="ClickHouse: "):
        run()
