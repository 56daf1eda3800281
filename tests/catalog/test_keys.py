"""Service keys are rotated with an overlap, or revoked; each change is audited, and the new key is shown once."""

import re
from datetime import timedelta
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from catalog.access import forget_keys
from catalog.keys import KeyEnded, revoke, rotate
from catalog.models import ServiceKey
from overrides.audit import verify
from overrides.models import AuditEntry
from tests import factories

pytestmark = pytest.mark.django_db
ADMIN = "/admin/catalog/servicekey/"
ANSWERS = "/api/v1/settings/overrides"


@pytest.fixture
def old() -> Any:
    factories.key("read", "select", tenants=("aurora", "borealis"))
    return ServiceKey.objects.get()


def works(client: Client, secret: str) -> bool:
    forget_keys()
    status = client.get(ANSWERS, headers={"Authorization": f"Api-Key {secret}"}).status_code
    assert status in (200, 401)
    return status == 200


def secret_of(key: Any) -> str:
    """Give a key a plain text that the test knows."""
    secret, _, key.hashed_key = ServiceKey.objects.key_generator.generate()
    key.hashed_key = ServiceKey.objects.key_generator.hash(f"{key.prefix}.{secret.partition('.')[2]}")
    key.save()
    return f"{key.prefix}.{secret.partition('.')[2]}"


def test_the_new_key_may_what_the_old_one_may_and_both_work_until_the_overlap_ends(
    client: Client, old: Any
) -> None:
    before, now = secret_of(old), timezone.now()
    new: Any
    new, secret = rotate(old, now)
    assert (new.name, new.verbs, new.all_tenants, new.expiry_date) == (old.name, old.verbs, False, None)
    assert set(new.tenants.all()) == set(old.tenants.all())
    assert secret.startswith(f"{new.prefix}.")
    assert new.prefix != old.prefix
    assert old.expiry_date == now + timedelta(hours=24)
    assert works(client, before)
    assert works(client, secret)
    ServiceKey.objects.filter(pk=old.pk).update(expiry_date=timezone.now() - timedelta(seconds=1))
    assert not works(client, before)
    assert works(client, secret)


def test_without_an_overlap_the_old_key_ends_at_once(client: Client, old: Any) -> None:
    before = secret_of(old)
    _, secret = rotate(old, timezone.now(), timedelta(0))
    assert not works(client, before)
    assert works(client, secret)


def test_a_key_that_ends_sooner_than_the_overlap_still_does_and_the_new_one_is_made_for_as_long(
    old: Any,
) -> None:
    now = timezone.now()
    end = now + timedelta(hours=1)
    ServiceKey.objects.filter(pk=old.pk).update(expiry_date=end, created=now - timedelta(days=29, hours=23))
    new, _ = rotate(old, now)
    assert ServiceKey.objects.get(pk=old.pk).expiry_date == end
    assert new.expiry_date == now + timedelta(days=30)


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=91)])
def test_an_overlap_that_makes_no_sense_changes_nothing(old: Any, overlap: timedelta) -> None:
    with pytest.raises(ValueError, match="0 to 90 days"):
        rotate(old, timezone.now(), overlap)
    assert ServiceKey.objects.count() == 1


def test_a_key_that_ended_is_neither_rotated_nor_revoked(old: Any) -> None:
    now = timezone.now()
    revoke(old, now)
    for change in (revoke, rotate):
        with pytest.raises(KeyEnded, match=old.prefix):
            change(old, now)
    expired: Any = ServiceKey.objects.create_key(name="old", verbs=["read"], expiry_date=now)[0]
    with pytest.raises(KeyEnded):
        rotate(expired, now)
    assert ServiceKey.objects.count() == 2


def test_a_rotation_that_fails_on_its_way_leaves_no_key_behind(
    old: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the midst of it")

    monkeypatch.setattr(ServiceKey, "save", broken)
    with pytest.raises(RuntimeError):
        rotate(old, timezone.now())
    assert ServiceKey.objects.count() == 1


def test_a_revoked_key_is_refused(client: Client, old: Any) -> None:
    before = secret_of(old)
    revoke(old, timezone.now())
    assert not works(client, before)


def act(client: Client, action: str, *chosen: Any) -> str:
    data = {"action": action, "_selected_action": [key.pk for key in chosen]}
    answer = client.post(ADMIN, data, follow=True)
    assert answer.status_code == 200
    return "\n".join(str(message) for message in answer.context["messages"])


def told() -> list[tuple[str, str]]:
    assert verify().broken_at is None
    return [(entry.verb, entry.object_id) for entry in AuditEntry.objects.order_by("seq")]


@pytest.mark.parametrize(("action", "hours"), [("rotate", 24), ("rotate_at_once", 0)])
def test_the_admin_rotates_shows_the_new_key_once_and_tells_the_audit_log(
    admin_client: Client, client: Client, old: Any, action: str, hours: int
) -> None:
    before = timezone.now()
    shown = act(admin_client, action, old)
    new: Any = ServiceKey.objects.exclude(pk=old.pk).get()
    secret = re.search(rf"{new.prefix}\.\w+", shown)
    assert secret is not None
    assert works(client, secret[0])
    assert secret[0] not in admin_client.get(ADMIN).content.decode()
    assert told() == [("create", new.prefix), ("update", old.prefix)]
    entry = AuditEntry.objects.get(object_id=old.prefix)
    assert entry.before is not None
    assert entry.after is not None
    assert {name for name in entry.after if entry.before[name] != entry.after[name]} == {"expiry_date"}
    end = ServiceKey.objects.get(pk=old.pk).expiry_date
    assert end is not None
    assert timedelta(0) <= end - before - timedelta(hours=hours) < timedelta(minutes=1)
    assert secret[0].partition(".")[2] not in str(list(AuditEntry.objects.values()))


def test_the_admin_revokes_several_and_tells_of_each_and_of_those_that_had_ended(
    admin_client: Client, old: Any
) -> None:
    second: Any = ServiceKey.objects.create_key(name="second", verbs=["read"], all_tenants=True)[0]
    shown = act(admin_client, "revoke", old, second)
    assert shown.count("is revoked; every process refuses it within 5 seconds") == 2
    assert sorted(told()) == sorted([("update", old.prefix), ("update", second.prefix)])
    assert "is revoked or has expired" in act(admin_client, "rotate", old)
    assert len(told()) == 2
    assert ServiceKey.objects.count() == 2


def test_who_may_only_look_at_keys_can_neither_rotate_nor_revoke(client: Client, old: Any) -> None:
    user = User.objects.create_user("looker", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_servicekey"))
    client.force_login(user)
    for action in ("rotate", "rotate_at_once", "revoke"):
        act(client, action, old)
    row = ServiceKey.objects.get()
    assert (row.revoked, row.expiry_date) == (False, None)
    user.user_permissions.add(Permission.objects.get(codename="change_servicekey"))
    act(client, "rotate", old)  # who may not make keys may not rotate them
    assert ServiceKey.objects.count() == 1
    act(client, "revoke", old)
    assert ServiceKey.objects.get().revoked


def test_a_key_of_thousands_of_tenants_is_listed_in_a_line(admin_client: Client, old: Any) -> None:
    old.tenants.set([factories.tenant(f"tenant-{number}") for number in range(50)])
    page = admin_client.get(ADMIN).content.decode()
    assert "and 45 more" in page
    assert page.count("tenant-") <= 10


def test_no_address_of_the_admin_holds_a_keys_hash(admin_client: Client, old: Any) -> None:
    assert old.pk == old.prefix
    for path in (ADMIN, f"{ADMIN}{old.pk}/change/", f"{ADMIN}{old.pk}/history/"):
        page = admin_client.get(path)
        assert page.status_code == 200
        assert old.hashed_key not in page.content.decode()


def test_keys_of_before_get_their_prefix_as_id_and_keep_their_tenants(client: Client, old: Any) -> None:
    secret, hashed = secret_of(old), f"{old.prefix}.{old.hashed_key}"
    bound = ServiceKey.tenants.through.objects
    bound.update(servicekey_id=hashed)
    ServiceKey.objects.filter(pk=old.pk).update(id=hashed)
    with connection.schema_editor() if connection.vendor != "sqlite" else _Editor() as editor:
        import_module("catalog.migrations.0004_keys_by_prefix").by_prefix(apps, editor)
    again: Any = ServiceKey.objects.get()
    assert again.pk == old.prefix
    assert {tenant.slug for tenant in again.tenants.all()} == {"aurora", "borealis"}
    assert works(client, secret)


class _Editor:
    """SQLite's own refuses to begin while foreign keys are checked; the migration needs its connection only."""

    connection = connection

    def __enter__(self) -> "_Editor":
        return self

    def __exit__(self, *_: Any) -> None:
        connection.check_constraints()


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("servicekey", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_command_rotates_prints_the_key_alone_and_is_audited(client: Client, old: Any) -> None:
    before = secret_of(old)
    out, err = run("rotate", old.prefix, "--overlap-hours", "0", "--reason", "the laptop was lost")
    new: Any = ServiceKey.objects.exclude(pk=old.pk).get()
    assert out.strip().startswith(f"{new.prefix}.")
    assert works(client, out.strip())
    assert not works(client, before)
    assert old.prefix in err
    assert told() == [("create", new.prefix), ("rotate", old.prefix)]
    entry = AuditEntry.objects.get(verb="rotate")
    assert (entry.actor, entry.role, entry.reason) == (
        "command:servicekey",
        "command",
        "the laptop was lost",
    )
    assert entry.before is not None
    assert entry.after is not None
    assert entry.before["expiry_date"] is None
    assert entry.after["expiry_date"] is not None


def test_the_command_revokes_by_the_prefix_of_a_whole_key_and_says_who_ran_it(old: Any) -> None:
    out, _ = run("revoke", secret_of(old))
    assert "is revoked" in out
    assert told() == [("revoke", old.prefix)]
    assert "manage.py servicekey revoke, run by the OS user" in AuditEntry.objects.get().reason
    with pytest.raises(CommandError, match="revoked or has expired"):
        run("rotate", old.prefix)


@pytest.mark.parametrize("hours", ["-1", "100000", "nan", "1e300"])
def test_the_command_refuses_an_overlap_that_makes_no_sense(old: Any, hours: str) -> None:
    with pytest.raises(CommandError):
        run("rotate", old.prefix, f"--overlap-hours={hours}")
    assert told() == []


def test_the_command_names_a_key_that_is_not_there_but_no_secret() -> None:
    with pytest.raises(CommandError, match="'abcdefgh'") as refused:
        run("revoke", "abcdefgh.the-secret-part")
    assert "secret-part" not in str(refused.value)


def test_the_command_lists_keys_without_hashes_and_those_that_ended_if_asked(old: Any) -> None:
    ended: Any = ServiceKey.objects.create_key(name="gone", verbs=["read"], revoked=True)[0]
    out, _ = run("list")
    assert out.strip().split("\t") == [old.prefix, "test", "read,select", "aurora,borealis", "never"]
    everything, _ = run("list", "--all")
    assert f"{ended.prefix}\tgone\tread\tnone\trevoked" in everything
    assert old.hashed_key not in everything
