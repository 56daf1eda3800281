"""What commands change is in the audit log, in the transaction of the change, as the admin's changes are."""

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import connection, models, transaction
from pytest_django.fixtures import Settings

from catalog.models import ModelProfile, Persona, ScopeDefault, ServiceKey, Tenant, TenantGrant
from catalog.versions import current_version
from commandcenter.recorder import recorded
from overrides import audit, services
from overrides.audit import Actor, verify
from overrides.models import AuditEntry, Flag, FlagScope, FlagTenant, KillSwitch, Override
from overrides.services import Wish
from tests import factories

ROOT = Path(__file__).parents[2]
ME = pwd.getpwuid(os.getuid()).pw_name

# Commits happen, as they do in a command.
pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def command() -> Iterator[None]:
    with recorded("shell", "manage.py shell"):
        yield


def told() -> list[tuple[str, str, str]]:
    assert verify().broken_at is None
    rows = AuditEntry.objects.order_by("seq").values_list("verb", "object_type", "object_id")
    return [(verb, kind, key) for verb, kind, key in rows]


def last() -> AuditEntry:
    entry = AuditEntry.objects.first()
    assert entry is not None
    return entry


def test_making_changing_and_deleting_is_told_with_who_and_why() -> None:
    with command():
        tenant = Tenant.objects.create(slug="aurora", name="Aurora")
        tenant.name = "Borealis"
        tenant.save()
        pk = str(tenant.pk)
        tenant.delete()
    assert told() == [("create", "tenant", pk), ("update", "tenant", pk), ("delete", "tenant", pk)]
    made, changed, deleted = AuditEntry.objects.order_by("seq")
    assert (made.actor, made.role, made.tenant) == ("command:shell", "command", "aurora")
    assert made.reason == f"manage.py shell, run by the OS user {ME}"
    assert (made.before, deleted.after) == (None, None)
    assert changed.before
    assert changed.after
    assert (changed.before["name"], changed.after["name"]) == ("Aurora", "Borealis")
    assert deleted.before == changed.after


def test_a_row_that_is_changed_twice_in_one_transaction_is_told_once() -> None:
    with command(), transaction.atomic():
        user = User.objects.create_user("boss")
        user.is_staff = True
        user.save()
        user.groups.add(Group.objects.get(name="admin"))
    assert told() == [("create", "user", str(user.pk))]
    after = last().after
    assert after
    assert (after["is_staff"], after["rights"]["groups"]) == (True, ["admin"])


def test_what_is_rolled_back_is_not_told() -> None:
    factories.tenant()
    with command():
        with suppress(RuntimeError), transaction.atomic():
            Tenant.objects.create(slug="borealis", name="Borealis")
            raise RuntimeError
        with transaction.atomic():
            Tenant.objects.create(slug="cumulus", name="Cumulus")
            with suppress(RuntimeError), transaction.atomic():
                Tenant.objects.update(name="Nimbus")
                raise RuntimeError
    assert [(verb, kind) for verb, kind, _ in told()] == [("create", "tenant")]
    assert last().tenant == "cumulus"


def test_what_cannot_be_told_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    user = User.objects.create_user("boss")

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no audit log")

    monkeypatch.setattr(audit, "append", refuse)
    user.is_superuser = True
    with pytest.raises(RuntimeError, match="no audit log"), command():
        user.save()
    user.refresh_from_db()
    assert not user.is_superuser
    with pytest.raises(RuntimeError, match="no audit log"), command():
        user.groups.add(Group.objects.get(name="admin"))
    assert not user.groups.exists()
    with pytest.raises(RuntimeError, match="no audit log"), command():
        User.objects.update(is_superuser=True)
    assert not User.objects.filter(is_superuser=True).exists()


def test_a_password_is_told_without_itself_and_a_sign_in_is_no_news() -> None:
    user = User.objects.create_user("boss")
    with command():
        user.save()
        user.last_login = factories.NOW
        user.save()
        assert told() == []
        user.set_password("a-long-password-7")
        user.save()
    assert told() == [("update", "user", str(user.pk))]
    entry = last()
    assert entry.before == entry.after
    assert entry.reason.endswith("; what changed is secret")
    kept = str(list(AuditEntry.objects.values()))
    assert user.password not in kept
    assert "a-long-password-7" not in kept


def test_sets_of_rows_are_told_row_by_row() -> None:
    factories.persona("essayist")
    factories.persona("coder")
    with command():
        Persona.objects.update(holdout_share=Decimal("0.1"))
        assert [(verb, kind) for verb, kind, _ in told()] == [("update", "persona")] * 2
        made = Tenant.objects.bulk_create([Tenant(slug=f"t-{number}", name="T") for number in range(3)])
        Tenant.objects.bulk_update([Tenant(pk=row.pk, name="U") for row in made], ["name"])
        Tenant.objects.filter(slug__startswith="t-").delete()
    of_tenants = [verb for verb, kind, _ in told() if kind == "tenant"]
    assert of_tenants == ["create"] * 3 + ["update"] * 3 + ["delete"] * 3


def test_what_goes_with_a_deleted_row_is_told_too() -> None:
    default = ScopeDefault.objects.create(
        tenant=factories.tenant(), persona=factories.persona(), profile=factories.profile()
    )
    pk = str(default.pk)
    with command():
        Tenant.objects.get().delete()
    assert ("delete", "scopedefault", pk) in told()


def test_many_to_many_rows_are_told_of_from_both_sides() -> None:
    tenant = factories.tenant()
    key: Any = ServiceKey.objects.create_key(name="k", verbs=["select"])[0]
    mine = ("update", "servicekey", key.prefix)
    with command():
        key.tenants.add(tenant)
        assert told() == [mine]
        tenant.service_keys.remove(key)
        assert told() == [mine, mine]
        tenant.service_keys.add(key)
        tenant.service_keys.clear()
    assert told() == [mine] * 4
    cleared: Any = last()
    assert (cleared.before["tenants"], cleared.after["tenants"]) == (["aurora"], [])


def test_a_tenants_share_is_told_with_its_flag_and_a_grant_with_its_person() -> None:
    flag, tenant, user = Flag.objects.get(), factories.tenant(), User.objects.create_user("boss")
    with command():
        share = FlagTenant.objects.create(flag=flag, tenant=tenant, rollout_percent=Decimal(5))
        FlagTenant.objects.update(rollout_percent=Decimal(7))
        FlagTenant.objects.get(pk=share.pk).delete()
        TenantGrant.objects.create(user=user, tenant=tenant, group=Group.objects.get(name="operator"))
    assert told() == [("update", "flag", str(flag.pk))] * 3 + [("update", "user", str(user.pk))]
    states: list[Any] = [
        entry.after for entry in AuditEntry.objects.filter(object_type="flag").order_by("seq")
    ]
    assert [state["tenants"] for state in states] == [{"aurora": "5"}, {"aurora": "7"}, {}]


def test_a_scopes_share_is_told_with_its_flag() -> None:
    flag, tenant, persona = Flag.objects.get(), factories.tenant(), factories.persona()
    with command():
        FlagScope.objects.create(flag=flag, tenant=tenant, persona=persona, rollout_percent=Decimal(5))
    entry: Any = AuditEntry.objects.get(object_type="flag")
    assert (entry.before["scopes"], entry.after["scopes"]) == ({}, {"aurora": {"essayist": "5"}})


def test_what_a_service_told_of_is_not_told_twice_and_what_goes_round_it_is_told() -> None:
    factories.scope()
    me = Actor("user:me", "admin")
    with command():
        made = services.create_override(
            Wish("prefer", "gpt-5.4", "ten characters", "aurora"), me, factories.NOW
        )
        services.set_kill_switch("aurora", True, "ten characters", me, factories.NOW)
        assert [(entry.actor, entry.verb) for entry in AuditEntry.objects.order_by("seq")] == [
            ("user:me", "create"),
            ("user:me", "switch"),
        ]
        Override.objects.filter(pk=made.pk).update(task="essay")
        KillSwitch.objects.update(on=False)
    assert told()[2:] == [("update", "override", str(made.pk)), ("update", "kill_switch", "aurora")]
    assert last().actor == "command:shell"


def test_a_fixture_may_name_rows_before_they_are_there_and_raises_the_policy_version(
    settings: Settings, tmp_path: Path
) -> None:
    factories.persona()
    file = tmp_path / "fixture.json"
    with file.open("w") as out:
        call_command("dumpdata", "catalog.persona", "catalog.modelprofile", stdout=out)
    rows = sorted(json.loads(file.read_text()), key=lambda row: row["model"], reverse=True)
    file.write_text(json.dumps(rows))
    Persona.objects.all().delete()
    ModelProfile.objects.all().delete()
    version = current_version()
    with command():
        call_command("loaddata", str(file), verbosity=0)
    assert sorted((verb, kind) for verb, kind, _ in told()) == [
        ("create", "modelprofile"),
        ("create", "persona"),
    ]
    persona = AuditEntry.objects.get(object_type="persona")
    assert persona.after
    assert persona.after["default_profile"] == "gpt-5.4"
    assert current_version() > version


def test_a_command_that_needs_no_database_needs_none_now(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise AssertionError("it was asked for")

    monkeypatch.setattr(connection, "ensure_connection", away)
    with command():
        pass


def test_afterwards_nothing_is_listened_to_any_more() -> None:
    names = [(models.Model, "save_base"), (models.QuerySet, "update"), (transaction.Atomic, "__exit__")]
    before = [getattr(owner, name) for owner, name in names]
    with suppress(RuntimeError), command():
        assert models.Model.save_base is not before[0]
        raise RuntimeError
    assert [getattr(owner, name) for owner, name in names] == before
    factories.tenant()
    Group.objects.create(name="others")
    assert told() == []


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with command():
        factories.tenant()
    assert last().reason == f"manage.py shell, run by the OS user {os.getuid()}"


# Through manage.py itself


def manage(folder: Path, *arguments: str, stdin: str = "", **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(folder), **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("commands")
    manage(made, "migrate", "--verbosity", "0")
    return made


def new_entries(folder: Path, since: int) -> list[dict[str, Any]]:
    lines = manage(folder, "audit", "export").splitlines()
    return [json.loads(line) for line in lines][since:]


@pytest.mark.slow
def test_djangos_own_commands_are_told_by_their_names(folder: Path, tmp_path: Path) -> None:
    # Neither migrating nor looking is a change.
    assert new_entries(folder, 0) == []

    secret = {"DJANGO_SUPERUSER_PASSWORD": "a-long-password-7"}
    manage(folder, "createsuperuser", "--noinput", "--username", "boss", "--email", "b@example.com", **secret)
    manage(folder, "waffle_flag", "AUTO_MODEL_SELECTION_ENABLED", "--everyone")
    fixture = tmp_path / "tenants.json"
    fixture.write_text(
        json.dumps(
            [
                {
                    "model": "catalog.tenant",
                    "pk": 7,
                    "fields": {
                        "slug": "aurora",
                        "name": "Aurora",
                        "created_at": factories.NOW.isoformat(),
                        "updated_at": factories.NOW.isoformat(),
                    },
                }
            ]
        )
    )
    manage(folder, "loaddata", str(fixture))
    code = "from catalog.models import Tenant; Tenant.objects.update(name='Borealis')"
    manage(folder, "shell", "--no-imports", "-c", code)

    found = new_entries(folder, 0)
    assert [(row["actor"], row["verb"], row["object_type"]) for row in found] == [
        ("command:createsuperuser", "create", "user"),
        ("command:waffle_flag", "update", "flag"),
        ("command:loaddata", "create", "tenant"),
        ("command:shell", "update", "tenant"),
    ]
    assert {row["role"] for row in found} == {"command"}
    assert found[1]["reason"] == f"manage.py waffle_flag, run by the OS user {ME}"
    assert (found[1]["before"]["everyone"], found[1]["after"]["everyone"]) == (None, True)
    assert "password" not in found[0]["after"]
    assert "4 entries, all as they were written" in manage(folder, "audit", "verify")


@pytest.mark.slow
def test_a_password_changed_by_command_is_told(folder: Path) -> None:
    before = len(new_entries(folder, 0))
    code = "from django.contrib.auth.models import User; User.objects.create_user('clerk', password='x')"
    manage(folder, "shell", "--no-imports", "-c", code)
    # changepassword asks a terminal; this is what it does then.
    change = (
        "import getpass; getpass.getpass = lambda **_: 'a-long-password-8'; "
        "from commandcenter.commands import run; run(['manage.py', 'changepassword', 'clerk'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", change],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made, changed = new_entries(folder, before)
    assert (made["actor"], changed["actor"]) == ("command:shell", "command:changepassword")
    assert changed["reason"].endswith("; what changed is secret")
    assert changed["before"] == changed["after"]
