"""`manage.py rollout`: what on-call types at night."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.models import Tenant
from commandcenter.recorder import recorded
from overrides.flags import read_flag
from overrides.models import AuditEntry
from routing.guarding.models import Rollout
from tests import factories
from tests.overrides.people import REASON
from tests.routing.scenes import flip, ranked_scope

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _scope() -> None:
    ranked_scope()
    flip(0)


def run(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    with recorded("rollout", "manage.py rollout"):
        call_command("rollout", *arguments, stdout=out, **options)
    return out.getvalue()


def start(*more: str) -> str:
    return run("start", "--tenant", "aurora", "--persona", "essayist", "--reason", REASON, *more)


def test_from_start_to_cancel_each_told_and_audited_once() -> None:
    assert run("status") == "No rollout is under way.\n"
    told = start("--plan", '{"steps": [10, 100]}')
    assert "aurora × essayist: running, step 1 of 2 at 10%" in told
    assert read_flag().scopes == {"aurora": {"essayist": 10.0}}
    pk = str(Rollout.objects.get().pk)
    assert "waits for the first look at its evidence" in run("status")
    assert "paused" in run("pause", pk, "--reason", REASON)
    assert "running" in run("resume", pk, "--reason", REASON)
    assert "rolled back, step 1 of 2 at 0%" in run("rollback", pk, "--reason", REASON)
    assert "waits for a person to resume or cancel it" in run("status", pk)
    assert "cancelled" in run("cancel", pk, "--reason", REASON)
    assert run("status") == "No rollout is under way.\n"
    entries = AuditEntry.objects.order_by("seq").values_list("actor", "verb", "object_type")
    assert list(entries) == [
        ("command:rollout", verb, kind)
        for verb, kind in (
            ("update", "flag"),
            ("start", "rollout"),
            ("pause", "rollout"),
            ("resume", "rollout"),
            ("update", "flag"),
            ("roll_back", "rollout"),
            ("cancel", "rollout"),
        )
    ]


def test_bounds_are_told_of_one_rollout() -> None:
    start()
    bound = {
        "estimate": 0.01,
        "lower": -0.2,
        "upper": 0.3,
        "margin": 0.1,
        "tolerance": 0.01,
        "state": "unproven",
    }
    look = {"verdict": {"bounds": {"success": bound}, "waits_for": ["9 more minutes"]}, "holds": []}
    Rollout.objects.update(look=look, looked_at=factories.NOW)
    told = run("status", str(Rollout.objects.get().pk))
    assert "success: harm from -20.00 to 30.00 points, margin 10.00: unproven" in told
    assert "waits for 9 more minutes" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pause", "4711", "--reason", REASON], "There is no rollout 4711"),
        (["start", "--tenant", "nobody", "--reason", REASON], "There is no tenant 'nobody'"),
        (["start", "--tenant", "aurora", "--reason", "short"], "10 characters"),
        (["start", "--tenant", "aurora", "--reason", REASON, "--plan", "[1]"], "a JSON object"),
        (["start", "--tenant", "aurora", "--reason", REASON, "--plan", '{"steps": [0]}'], "plan.steps"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told.replace("[", r"\[")):
        run(*arguments)
    assert not Rollout.objects.exists()


def test_a_second_one_is_refused_and_under_four_eyes_starting_waits() -> None:
    start()
    with pytest.raises(CommandError, match="finish or cancel it first"):
        start()
    Tenant.objects.update(four_eyes=True)
    run("rollback", str(Rollout.objects.get().pk), "--reason", REASON)
    with pytest.raises(CommandError, match="Pausing and rolling back never wait"):
        run("resume", str(Rollout.objects.get().pk), "--reason", REASON)
