"""Guarded rollouts at work: real decisions and their completions in ClickHouse, and what the task makes of them."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from catalog.models import Persona
from config.celery import app
from overrides import audit
from overrides.approvals import Refused
from overrides.audit import Actor
from overrides.flags import read_flag
from overrides.models import AuditEntry, Flag, FlagScope, FlagTenant, KillSwitch
from routing import tasks
from routing.bundle import current_bundle, forget_bundle
from routing.engine import SelectionRequest, decide
from routing.events import publish
from routing.guarding import machine, services
from routing.guarding.models import Rollout, RolloutStep
from routing.guarding.services import Wish
from routing.models import Alert, Webhook, WebhookDelivery
from telemetry.clickhouse import ClickHouse, get_clickhouse
from tests import factories
from tests.overrides.people import REASON, call
from tests.routing.scenes import flip, ranked_scope
from tests.telemetry.engines import CHDB
from tests.telemetry.pipeline import run_pipeline
from tests.telemetry.test_arms import completion, report
from tests.telemetry.test_arms import decide as store_decisions
from tests.telemetry.test_arms import decision as stored_decision

pytestmark = pytest.mark.django_db
#: What is asked of ClickHouse is tested on both engines in tests/telemetry/test_step_sums.py.
ONE_ENGINE = pytest.mark.parametrize("clickhouse_url", [CHDB], indirect=True)
ANNA = Actor("user:anna", "admin")
REPEAT = timedelta(minutes=5)
WIDE = dict.fromkeys(("success", "safety_violations", "escalations", "slow"), 0.5)
PLAN = {"steps": [40, 80, 100], "min_minutes": 30, "min_conversations": 20, "margins": WIDE}


@pytest.fixture
def began() -> datetime:
    """Hours ago: what the rollout does since lies behind the scores, which are of now."""
    ranked_scope(holdout_share=Decimal("0.3"))
    # Sides are drawn by hash: with one salt they are the same in every run.
    Flag.objects.update(salt="s")
    flip(0)
    return timezone.now() - timedelta(hours=6)


def start(at: datetime, persona: str | None = "essayist", plan: dict[str, Any] | None = None) -> Rollout:
    made = services.start(Wish("aurora", persona, REASON, plan or PLAN), ANNA, at)
    forget_bundle()
    return made


def converse(
    door: ClickHouse, at: datetime, count: int = 150, *, bad: str = "", name: str = "c", outcome: Any = None
) -> dict[str, int]:
    """Conversations decided by the bundle as it is, with a completion each; those on the profile ``bad`` fail, or come
    out as ``outcome``. Returns how many got which profile."""
    forget_bundle()
    bundle, decisions, completions = current_bundle(), [], []
    given: dict[str, int] = {}
    for number in range(count):
        conversation = f"{name}-{number}"
        made = decide(bundle, SelectionRequest("aurora", "essayist", conversation, at))
        row = stored_decision(conversation, made.reason.value, at, profile=made.profile.slug)
        ended = (outcome or {"success": 0}) if made.profile.slug == bad else {}
        decisions.append(row)
        completions.append(
            completion(conversation, row["decision_id"], at, profile=made.profile.slug, **ended)
        )
        given[made.profile.slug] = given.get(made.profile.slug, 0) + 1
    store_decisions(door, decisions)
    report(door, completions)
    return given


def look(door: ClickHouse, now: datetime) -> str:
    """One run of the task."""
    forget_bundle()
    done = machine.advance_all(door, now, REPEAT)
    forget_bundle()
    return ", ".join(done.values())


def row() -> Rollout:
    return Rollout.objects.select_related("tenant", "persona").get()


def share() -> float:
    forget_bundle()
    return current_bundle().flag.share("aurora", "essayist")


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


@ONE_ENGINE
def test_it_goes_up_step_by_step_and_completes(door: ClickHouse, began: datetime) -> None:
    start(began)
    assert look(door, began + minutes(1)) == "hold"
    given = converse(door, began + minutes(20))
    assert 30 <= given["cheap"] <= 60
    # Its evidence is there; its time is not up.
    assert look(door, began + minutes(25)) == "hold"
    told: Any = row().look
    assert (told["verdict"]["treated"], told["verdict"]["control"]) == (given["cheap"], given["incumbent"])
    assert told["verdict"]["waits_for"] == ["5 more minutes"]
    second = began + minutes(31)
    assert look(door, second) == "advance"
    assert (row().step, row().state, share()) == (1, "running", 0.8)
    # What began in the step before counts for that one alone.
    assert look(door, second + minutes(10)) == "hold"
    assert row().look["verdict"]["treated"] == 0  # type: ignore[index]
    converse(door, second + minutes(20), name="d")
    third = second + minutes(32)
    assert (look(door, third), share()) == ("advance", 1.0)
    # At 100% the holdout is the control.
    given = converse(door, third + minutes(20), name="e")
    assert given["incumbent"] > 20
    assert look(door, third + minutes(31)) == "complete"
    assert (row().state, share()) == ("completed", 1.0)
    assert look(door, third + minutes(60)) == ""
    history = RolloutStep.objects.values_list("index", "percent", "ended_as")
    told = [(index, float(percent), how) for index, percent, how in history]
    assert told == [(0, 40, "advance"), (1, 80, "advance"), (2, 100, "complete")]
    actors = AuditEntry.objects.filter(object_type="rollout").order_by("seq")
    assert list(actors.values_list("verb", "actor", "role")) == [
        ("start", "user:anna", "admin"),
        ("advance", "system", "system"),
        ("advance", "system", "system"),
        ("complete", "system", "system"),
    ]
    assert audit.verify().broken_at is None


@ONE_ENGINE
@pytest.mark.parametrize(("good", "then"), [(True, "advance"), (False, "roll_back")])
def test_from_the_selection_endpoint_through_ingest_and_outbox_to_the_verdict(
    door: ClickHouse, began: datetime, client: Client, good: bool, then: str
) -> None:
    start(timezone.now() - minutes(40))
    key = factories.key("select")
    events = []
    for number in range(120):
        asked = {"tenant": "aurora", "persona": "essayist", "conversation_id": f"c-{number}"}
        given = call(client, "post", "/selections", asked, key).json()
        profile = given["profile"]["slug"]
        events.append(
            factories.event(
                occurred_at=timezone.now().isoformat(),
                conversation_id=f"c-{number}",
                decision_id=given["decision_id"],
                profile=profile,
                success=good or profile != "cheap",
            )
        )
    now = timezone.now()
    while publish(door, 2_000):
        pass
    run_pipeline(door, events, now)
    assert look(door, now + minutes(3)) == then
    verdict: Any = RolloutStep.objects.get(index=0).verdict
    assert verdict["treated"] + verdict["control"] == 120
    assert share() == (0.8 if good else 0.0)


@ONE_ENGINE
@pytest.mark.parametrize(
    ("outcome", "measure"),
    [
        ({"success": 0}, "fall of success"),
        ({"safety_violation": 1}, "safety violations"),
        ({"escalated": 1}, "escalations"),
        ({"latency_ms": 60_001}, "slower than the SLA"),
    ],
)
def test_a_profile_that_harms_is_rolled_back_told_and_stays_back_until_a_person_acts(
    door: ClickHouse, began: datetime, outcome: dict[str, int], measure: str
) -> None:
    Webhook.objects.create(name="pager", url="https://pager.example.com", secret="whsec_eA==")
    start(began)
    converse(door, began + minutes(5), bad="cheap", outcome=outcome)
    now = began + minutes(8)
    assert look(door, now) == "roll_back"
    back = row()
    assert (back.state, back.by_itself, float(back.share), share()) == ("rolled_back", True, 0.0, 0.0)
    assert measure in back.reason
    entry: Any = AuditEntry.objects.filter(object_type="rollout", verb="roll_back").get()
    assert (entry.actor, entry.tenant, entry.before["state"], entry.after["share"]) == (
        "system",
        "aurora",
        "running",
        0,
    )
    flag: Any = AuditEntry.objects.filter(object_type="flag").first()
    assert (flag.actor, flag.after["scopes"]) == ("system", {"aurora": {"essayist": "0"}})
    kept: Any = RolloutStep.objects.get()
    assert (kept.ended_as, kept.verdict["action"]) == ("roll_back", "roll_back")
    # It stays back over many runs, whatever comes in, and nothing but the alert is told again.
    converse(door, began + minutes(10), name="later")
    for minute in range(9, 21):
        assert look(door, began + minutes(minute)) == ""
    assert (row().version, share()) == (back.version, 0.0)
    told = [orjson.loads(sent.payload)["data"] for sent in WebhookDelivery.objects.order_by("pk")]
    assert [(one["name"], one["status"]) for one in told] == [
        ("rollout_rolled_back:aurora/essayist", status) for status in ("began", "holds", "holds")
    ]
    assert measure in told[0]["detail"]
    again = services.resume(back.pk, back.version, None, REASON, ANNA, began + minutes(30))
    assert (again.state, again.attempt, share()) == ("running", 2, 0.4)
    look(door, began + minutes(31))
    assert not Alert.objects.filter(cleared_at=None).exists()
    # The evidence that rolled it back is of another attempt.
    assert row().state == "running"


@ONE_ENGINE
def test_an_acknowledged_roll_back_stays_and_alerts_no_more(door: ClickHouse, began: datetime) -> None:
    start(began)
    converse(door, began + minutes(5), bad="cheap")
    look(door, began + minutes(8))
    back = row()
    services.acknowledge(back.pk, back.version, REASON, ANNA, began + minutes(9))
    look(door, began + minutes(10))
    assert (row().state, row().by_itself, share()) == ("rolled_back", False, 0.0)
    assert Alert.objects.get().cleared_at is not None
    with pytest.raises(Refused, match="knows of it already"):
        services.acknowledge(back.pk, row().version, REASON, ANNA, began + minutes(11))


@ONE_ENGINE
def test_paused_it_does_not_advance_and_a_regression_still_rolls_back(
    door: ClickHouse, began: datetime
) -> None:
    made = start(began)
    services.pause(made.pk, 1, REASON, ANNA, began + minutes(1))
    converse(door, began + minutes(20))
    assert look(door, began + minutes(31)) == "hold"
    assert (row().state, row().look["verdict"]["action"]) == ("paused", "advance")  # type: ignore[index]
    converse(door, began + minutes(32), bad="cheap", name="d")
    assert look(door, began + minutes(36)) == "roll_back"


@ONE_ENGINE
@pytest.mark.parametrize(
    ("by_hand", "why"),
    [
        (lambda: FlagScope.objects.update(rollout_percent=7), "set to 7% by hand"),
        (lambda: FlagScope.objects.all().delete(), "taken away by hand"),
        (lambda: Flag.objects.update(everyone=True), "set to on for everybody"),
    ],
)
def test_it_pauses_rather_than_fight_a_person_who_changes_the_share(
    door: ClickHouse, began: datetime, by_hand: Any, why: str
) -> None:
    start(began)
    converse(door, began + minutes(20), bad="cheap")
    by_hand()
    before = read_flag()
    assert look(door, began + minutes(31)) == "pause"
    assert (row().state, row().by_itself) == ("paused", True)
    assert why in row().reason
    assert read_flag() == before
    assert AuditEntry.objects.filter(object_type="rollout").latest("seq").actor == "system"
    # What the evidence says is about a share that is no more.
    assert look(door, began + minutes(32)) == "hold"
    assert read_flag() == before


@ONE_ENGINE
def test_it_never_advances_upon_silence(door: ClickHouse, began: datetime) -> None:
    start(began)
    converse(door, began + minutes(20))
    assert look(door, began + minutes(36)) == "hold"
    told: Any = row().look
    assert told["verdict"]["action"] == "advance"
    assert told["holds"] == ["a completion of the step's conversations: there was none for 16 minutes"]
    converse(door, began + minutes(37), count=5, name="again")
    assert look(door, began + minutes(40)) == "advance"


@ONE_ENGINE
def test_it_holds_while_the_kill_switch_is_on_or_metrics_are_stale(door: ClickHouse, began: datetime) -> None:
    start(began)
    converse(door, began + minutes(20))
    KillSwitch.objects.create(tenant=None, on=True, reason=REASON, changed_at=began, changed_by="user:x")
    assert look(door, began + minutes(31)) == "hold"
    assert row().look["holds"] == ["the kill switch to be off"]  # type: ignore[index]
    KillSwitch.objects.all().delete()
    # The scores' time is now; an hour from now they are stale.
    later = timezone.now() + timedelta(hours=1)
    converse(door, later, count=1, name="stale")
    assert look(door, later + minutes(3)) == "hold"
    assert "fresh enough to steer by" in row().look["holds"][0]  # type: ignore[index]


@ONE_ENGINE
def test_while_clickhouse_is_away_it_holds_says_so_and_keeps_what_it_knew(
    door: ClickHouse, began: datetime, settings: Settings
) -> None:
    start(began)
    converse(door, began + minutes(20))
    look(door, began + minutes(25))
    known: Any = row().look
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    assert look(get_clickhouse(), began + minutes(31)) == "hold"
    told: Any = row().look
    assert told["holds"] == ["ClickHouse to answer: the evidence could not be read"]
    assert (told["verdict"], told["at"]) == (known["verdict"], known["at"])
    assert row().looked_at == began + minutes(31)


@ONE_ENGINE
def test_of_two_runners_one_acts(door: ClickHouse, began: datetime) -> None:
    start(began)
    converse(door, began + minutes(20))
    seen, now = row(), began + minutes(31)
    forget_bundle()
    assert machine.attend(seen, door, now) == "advance"
    late = Rollout.objects.select_related("tenant", "persona").get()
    late.version, late.step, late.share = 1, 0, Decimal(40)
    late.step_began_at = began
    FlagScope.objects.update(rollout_percent=40)
    with pytest.raises(Refused, match="at version 2 now"):
        machine.attend(late, door, now)
    assert (row().step, RolloutStep.objects.count()) == (1, 2)


@ONE_ENGINE
def test_of_a_whole_tenant_personas_with_a_share_of_their_own_do_not_count(
    door: ClickHouse, began: datetime
) -> None:
    start(began, persona=None)
    assert FlagTenant.objects.get().rollout_percent == 40
    given = converse(door, began + minutes(20))
    assert look(door, began + minutes(25)) == "hold"
    assert row().look["verdict"]["treated"] == given["cheap"]  # type: ignore[index]
    FlagScope.objects.create(
        flag=Flag.objects.get(),
        tenant=row().tenant,
        persona=Persona.objects.get(),
        rollout_percent=Decimal(40),
    )
    assert look(door, began + minutes(31)) == "hold"
    assert "all of the tenant's have a share of their own" in row().look["holds"][-1]  # type: ignore[index]


def test_a_restart_and_a_higher_step_take_no_conversation_out(began: datetime) -> None:
    made = start(began)

    def on() -> set[int]:
        forget_bundle()  # as a process does that starts: all it knows it reads from the database
        flag = current_bundle().flag
        return {number for number in range(300) if flag.is_on("aurora", "essayist", f"c-{number}")}

    first = on()
    assert 80 < len(first) < 160
    assert on() == first
    made.refresh_from_db()
    services.begin_step(made, 1, began + minutes(60))
    services.write(made, AuditEntry.Verb.ADVANCE, {}, "a step further", audit.SYSTEM, began + minutes(60))
    assert on() > first


def test_an_old_step_is_looked_at_less_often(began: datetime) -> None:
    made = start(began)
    made.looked_at = began + minutes(300)
    assert not machine._is_due(made, began + minutes(302))
    assert machine._is_due(made, began + minutes(304))
    made.looked_at = began + timedelta(days=30)
    assert machine._is_due(made, began + timedelta(days=30, minutes=15))


def test_the_task_is_on_the_beat_and_without_rollouts_asks_nothing_of_clickhouse(began: datetime) -> None:
    entry = app.conf.beat_schedule["advance-rollouts"]
    assert (entry["task"], entry["schedule"]) == (tasks.advance_rollouts.name, 60)
    with CaptureQueriesContext(connection) as asked:
        assert tasks.advance_rollouts() == []
    assert len(asked) < 15
    start(began)
    assert tasks.advance_rollouts() == [f"{row().pk}: hold"]
    assert "ClickHouse to answer" in row().look["holds"][0]  # type: ignore[index]


def test_a_rollout_begun_at_a_higher_share_than_before_keeps_the_conversations_that_were_on(
    began: datetime,
) -> None:
    FlagTenant.objects.create(flag=Flag.objects.get(), tenant=factories.tenant(), rollout_percent=30)
    forget_bundle()
    before = {n for n in range(300) if current_bundle().flag.is_on("aurora", "essayist", f"c-{n}")}
    start(began)
    after = {n for n in range(300) if current_bundle().flag.is_on("aurora", "essayist", f"c-{n}")}
    assert before < after
