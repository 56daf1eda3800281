"""`manage.py flag` and `manage.py kill_switch`: what on-call types at night, audited as every other door's changes."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from overrides.audit import verify
from overrides.flags import read_flag
from overrides.models import AuditEntry, Flag
from overrides.selectors import killed
from tests import factories

pytestmark = pytest.mark.django_db
WHY = ("--reason", "wrong answers since 14:00")


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def told() -> list[tuple[str, str, str]]:
    assert verify().broken_at is None
    rows = AuditEntry.objects.order_by("seq").values_list("actor", "verb", "reason")
    return [(actor, verb, reason) for actor, verb, reason in rows]


def test_the_flag_is_shown_with_shares_the_kill_switch_and_who_changed_it_last() -> None:
    factories.scope()
    assert "is on for 0% of conversations" in run("flag", "status")
    run("flag", "percent", "25", *WHY)
    run("flag", "percent", "5", "--tenant", "aurora", *WHY)
    run("kill_switch", "on", "--tenant", "aurora", *WHY)
    shown = run("flag", "status")
    for line in (
        "is on for 25",
        "  aurora: 5",
        "Kill switch: ON for aurora",
        "by command:flag: wrong answers",
    ):
        assert line in shown


def test_the_flag_is_turned_on_off_and_to_a_share_each_with_an_entry() -> None:
    assert "is on for everybody" in run("flag", "on", *WHY)
    assert read_flag().everyone is True
    assert "is off for everybody" in run("flag", "off", *WHY)
    assert read_flag().everyone is False
    assert "is on for 12.5" in run("flag", "percent", "12.5%", *WHY)
    assert (read_flag().everyone, read_flag().percent) == (None, 12.5)
    assert told() == [("command:flag", "update", WHY[1])] * 3


def test_a_tenant_is_given_a_share_of_its_own_and_it_is_taken_away() -> None:
    factories.tenant("borealis")
    factories.tenant()
    run("flag", "on", "--tenant", "borealis", *WHY)
    for action, share in (("on", 100.0), ("off", 0.0)):
        run("flag", action, "--tenant", "aurora", *WHY)
        assert read_flag().tenants == {"aurora": share, "borealis": 100.0}
    run("flag", "inherit", "--tenant", "aurora", *WHY)
    assert read_flag().tenants == {"borealis": 100.0}
    with pytest.raises(CommandError, match="aurora has no share of its own"):
        run("flag", "inherit", "--tenant", "aurora", *WHY)


def test_shares_that_do_not_count_now_are_said_not_to() -> None:
    factories.tenant()
    run("flag", "percent", "5", "--tenant", "aurora", *WHY)
    assert "count again once" in run("flag", "off", *WHY)


def test_setting_what_is_set_already_adds_no_entry() -> None:
    run("flag", "on", *WHY)
    run("flag", "on", *WHY)
    run("kill_switch", "on", *WHY)
    run("kill_switch", "on", *WHY)
    assert [entry[0] for entry in told()] == ["command:flag", "command:kill_switch"]


def test_the_kill_switch_stops_one_tenant_or_everybody_and_lets_go_on() -> None:
    factories.tenant()
    assert "off for everybody" in run("kill_switch", "status")
    run("kill_switch", "on", "--tenant", "aurora", *WHY)
    assert killed() == (False, frozenset({"aurora"}))
    shown = run("kill_switch", "on", *WHY)
    assert "ON for everybody since" in shown
    assert "ON for aurora since" in shown
    assert "by command:kill_switch: wrong answers since 14:00" in shown
    run("kill_switch", "off", *WHY)
    run("kill_switch", "off", "--tenant", "aurora", *WHY)
    assert killed() == (False, frozenset())
    assert told() == [("command:kill_switch", "switch", WHY[1])] * 4


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("flag", "on"), "--reason"),
        (("flag", "on", "--reason", "short"), "10 characters or more"),
        (("flag", "percent", "101", *WHY), "'101' is no percentage"),
        (("flag", "percent", "nan", *WHY), "'nan' is no percentage"),
        (("flag", "percent", "0.001", *WHY), "'0.001' is no percentage"),
        (("flag", "on", "--tenant", "nobody", *WHY), "nobody"),
        (("kill_switch", "on"), "--reason"),
        (("kill_switch", "on", "--reason", "short"), "10 characters or more"),
        (("kill_switch", "on", "--tenant", "nobody", *WHY), "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line_and_changes_nothing(
    arguments: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(CommandError, match=problem):
        run(*arguments)
    assert told() == []
    assert (read_flag().everyone, killed()) == (None, (False, frozenset()))


def test_four_eyes_keep_the_flag_as_it_is_but_never_the_emergency_stop() -> None:
    factories.tenant(four_eyes=True)
    with pytest.raises(CommandError, match=r"the tenant aurora .*manage.py kill_switch on"):
        run("flag", "off", *WHY)
    run("kill_switch", "on", *WHY)
    assert killed()[0]
    with pytest.raises(CommandError, match="second person's approval"):
        run("kill_switch", "off", *WHY)
    assert killed()[0]


def test_without_the_flag_the_command_says_what_to_do() -> None:
    Flag.objects.all().delete()
    with pytest.raises(CommandError, match=r"manage\.py migrate"):
        run("flag", "status")
