"""The savings ledger over the API: JSON and CSV, by scope and by day; what is refused."""

import csv
import io
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from routing import savings_report, tasks
from routing.events import publish
from routing.models import Selection
from telemetry.arm_sums import Arm, ArmDay, ArmSums
from telemetry.clickhouse import ClickHouse
from tests import factories
from tests.routing.arms import rows, store, sums
from tests.routing.scenes import ASKED, ranked_scope
from tests.telemetry.engines import CHDB
from tests.telemetry.pipeline import run_pipeline

pytestmark = pytest.mark.django_db
URL = "/api/v1/savings"
#: What is asked of ClickHouse is tested on both engines in tests/telemetry/test_arms.py.
ONE_ENGINE = pytest.mark.parametrize("clickhouse_url", [CHDB], indirect=True)


def today(back: int = 0) -> datetime:
    return timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=back)


def ask(client: Client, key: dict[str, str], **query: str) -> Any:
    return client.get(URL, query, headers=key)


@pytest.fixture
def scope() -> None:
    factories.scope()
    factories.tenant("borealis")


def cheaper(day: datetime, tenant: str = "aurora") -> list[ArmDay]:
    """100 treated completions at 1 to 2 cents, where the control's 40 came to 4 to 5."""
    return rows(sums([(1, 0.04), (1, 0.05)] * 20), sums([(1, 0.01), (1, 0.02)] * 50), day=day, tenant=tenant)


@ONE_ENGINE
def test_savings_of_a_scope_with_intervals(scope: None, client: Client, door: ClickHouse) -> None:
    outside = ArmDay(today(), "aurora", "essayist", "essay", Arm.OUTSIDE, sums([(1, 0.02)] * 7))
    store(door, [*cheaper(today()), *cheaper(today(1)), *cheaper(today(), "borealis"), outside])
    body = ask(client, factories.key("read")).json()
    assert (body["first"], body["last"]) == (str(today(29).date()), str(today().date()))
    assert (body["group"], body["minimum_conversations"]) == ("total", 30)
    assert body["completions"] == {"control": 80, "treated": 200, "outside": 7, "undecided": 0}
    [entry] = body["entries"]
    assert (entry["tenant"], entry["persona"], entry["day"]) == ("aurora", "essayist", None)
    assert {**entry, "tenant": 0, "persona": 0, "day": 0} == {
        **body["total"],
        "tenant": 0,
        "persona": 0,
        "day": 0,
    }
    assert entry["verdict"] == "saved"
    assert entry["saved_usd"]["value"] == "6.000000000"
    assert (
        Decimal(5) < Decimal(entry["saved_usd"]["lower"]) < Decimal(entry["saved_usd"]["upper"]) < Decimal(7)
    )
    assert entry["saved_share"]["value"] == pytest.approx(6 / 9)
    assert (entry["compared"], entry["days"], entry["strata"], entry["harms"]) == (1, 2, 2, [])
    assert entry["success"]["difference"]["value"] == 0


@ONE_ENGINE
def test_by_day_and_of_one_tenant_or_persona(scope: None, client: Client, door: ClickHouse) -> None:
    thin = rows(sums([(1, 0.05)] * 12), sums([(1, 0.01)] * 200), day=today(2))
    store(door, [*cheaper(today()), *thin, *cheaper(today(), "borealis")])
    key = factories.key("read", tenants=())
    found = ask(client, key, group="day").json()["entries"]
    assert [(one["tenant"], one["day"], one["verdict"]) for one in found] == [
        ("aurora", str(today(2).date()), "not_enough_data"),
        ("aurora", str(today().date()), "saved"),
        ("borealis", str(today().date()), "saved"),
    ]
    assert found[0]["saved_usd"] is found[0]["success"] is None
    assert found[0]["control"]["conversations"] == 12
    assert {one["tenant"] for one in ask(client, key, tenant="borealis").json()["entries"]} == {"borealis"}
    factories.persona("coder")
    assert ask(client, key, persona="coder").json()["entries"] == []
    range_ = {"from": str(today(2).date()), "to": str(today(1).date())}
    assert [one["verdict"] for one in ask(client, key, **range_).json()["entries"]] == ["not_enough_data"]


@ONE_ENGINE
def test_as_csv_numbers_are_numbers_and_names_no_formulas(
    scope: None, client: Client, door: ClickHouse
) -> None:
    dearer = rows(sums([(1, 0.01), (1, 0.02)] * 20), sums([(1, 0.04), (1, 0.05)] * 50), day=today())
    store(
        door,
        [*dearer, *(ArmDay(one.day, "=cmd()", one.persona, one.task, one.arm, one.sums) for one in dearer)],
    )
    answer = ask(client, factories.key("read", tenants=()), format="csv", group="day")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"].startswith('attachment; filename="savings-')
    mallory, aurora = csv.DictReader(io.StringIO(answer.content.decode()))
    assert mallory["tenant"] == "'=cmd()"
    assert (aurora["tenant"], aurora["from"], aurora["verdict"]) == (
        "aurora",
        str(today().date()),
        "cost_more",
    )
    assert Decimal(aurora["saved_usd"]) == Decimal(-3)
    assert float(aurora["saved_usd_lower"]) < -3 < float(aurora["saved_usd_upper"]) < 0
    assert (aurora["success_difference"], aurora["control_conversations"]) == ("0.0", "40")
    assert (Decimal(aurora["control_cost_usd"]), aurora["compared"]) == (Decimal("0.6"), "1.0")


@ONE_ENGINE
def test_a_csv_without_enough_data_has_empty_cells(scope: None, client: Client, door: ClickHouse) -> None:
    store(door, rows(ArmSums(conversations=1), sums([(1, 0.01)] * 200), day=today()))
    answer = client.get(URL, headers={**factories.key("read"), "Accept": "text/csv"})
    [line] = csv.DictReader(io.StringIO(answer.content.decode()))
    assert (line["verdict"], line["saved_usd"], line["saved_share"]) == ("not_enough_data", "", "")
    assert line["success_difference_lower"] == ""


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"tenant": "borealis"}, 404, "unknown_tenant"),
        ({"tenant": "nowhere"}, 404, "unknown_tenant"),
        ({"persona": "nobody"}, 404, "unknown_persona"),
        ({"from": "2026-13-01"}, 400, "invalid"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, 400, "bad_range"),
        ({"from": "2025-01-01", "to": "2026-02-05"}, 400, "bad_range"),
        ({"to": "0001-01-01"}, 400, "bad_range"),
        ({"to": "9999-12-31"}, 400, "bad_range"),
        ({"group": "week"}, 400, "invalid"),
        ({"format": "xml"}, 400, "invalid"),
        ({"format": "csv", "tenant": "borealis"}, 404, "unknown_tenant"),
        ({}, 503, "clickhouse_unavailable"),
    ],
)
def test_a_bad_or_foreign_question_is_a_clear_problem(
    scope: None, client: Client, query: dict[str, str], status: int, code: str
) -> None:
    answer = ask(client, factories.key("read"), **query)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == code


@ONE_ENGINE
def test_too_much_at_once_is_refused(
    scope: None, client: Client, door: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(door, [*cheaper(today()), *cheaper(today(1))])
    monkeypatch.setattr(savings_report, "MOST_ROWS", 3)
    answer = ask(client, factories.key("read"))
    assert (answer.status_code, answer.json()["code"]) == (400, "too_much")
    yesterday = str(today(1).date())
    assert ask(client, factories.key("read"), **{"from": yesterday, "to": yesterday}).status_code == 200


@ONE_ENGINE
def test_from_real_decisions_and_their_completions(client: Client, door: ClickHouse) -> None:
    """Through the front doors: selections asked, decisions published, completions reported, summed by beat's task."""
    ranked_scope(holdout_share=Decimal("0.5"))
    now = timezone.now()
    key = factories.key()
    events = []
    for number in range(80):
        asked = {**ASKED, "conversation_id": f"c-{number}"}
        told = client.post("/api/v1/selections", asked, content_type="application/json", headers=key).json()
        slug = told["profile"]["slug"]
        events.append(
            factories.event(
                occurred_at=now.isoformat(),
                conversation_id=f"c-{number}",
                decision_id=told["decision_id"] if number % 2 else None,
                profile=slug,
                task="essay",
                cost_usd="0.05" if slug == "incumbent" else f"0.01{number:02}",
            )
        )
    held = Selection.objects.filter(reason="holdout").count()
    assert 20 <= held <= 60  # 4.5 standard deviations: which are held depends on the flag's salt
    run_pipeline(door, events, now)
    publish(door, most=100)
    assert tasks.update_savings() >= 1
    assert tasks.update_savings() == 0
    total = ask(client, key, to=str(now.date())).json()["total"]
    assert (total["control"]["conversations"], total["treated"]["conversations"]) == (held, 80 - held)
    assert total["verdict"] == "saved"
    spent = Decimal(total["treated"]["cost_usd"])
    assert Decimal(total["saved_usd"]["value"]) == (80 - held) * Decimal("0.05") - spent


def test_while_clickhouse_is_away_the_task_gives_up_quietly() -> None:
    assert tasks.update_savings() == 0
    assert tasks.revisit_savings() == 0


def test_days_whose_decisions_may_be_partly_gone_are_not_summed_up_again(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RETENTION_DAYS = {**settings.RETENTION_DAYS, "completions": 30, "selections": 20}
    asked: list[datetime] = []

    def spy(_: ClickHouse, first: datetime, now: datetime, **more: Any) -> list[datetime]:
        asked.append(first)
        return []

    monkeypatch.setattr(tasks, "update_arms", spy)
    tasks.revisit_savings()
    # What is 20 days old may be dropped; a day looks two days back for its decisions.
    assert [(timezone.now() - first).days for first in asked] == [17]
