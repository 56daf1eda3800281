"""Signing in: who guesses is locked out, who does not is not, nothing secret stays, and sessions end."""

from datetime import datetime, timedelta
from http.cookies import Morsel
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.conf import settings as configured
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from commandcenter.tasks import clear_sessions, prune_sign_ins
from overrides.models import AuditEntry

pytestmark = pytest.mark.django_db
PASSWORD = "a-long-password-7"
LIMIT = configured.AXES_FAILURE_LIMIT


@pytest.fixture(autouse=True)
def _files_without_a_manifest(settings: Settings) -> None:
    settings.STORAGES = {
        **configured.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def boss() -> User:
    return User.objects.create_superuser("boss", password=PASSWORD)


def sign_in(
    client: Client, name: str = "boss", password: str = PASSWORD, at: str = "10.0.0.1", **extra: Any
) -> Any:
    fields = {"username": name, "password": password}
    return client.post("/admin/login/", fields, REMOTE_ADDR=at, **extra)


def fail(times: int, name: str = "boss", at: str = "10.0.0.1", agent: str = "x") -> Any:
    answer = None
    for _ in range(times):
        answer = sign_in(Client(), name, "wrong", at, HTTP_USER_AGENT=agent)
    return answer


def fail_from_everywhere(times: int) -> None:
    """As many failures, each address staying below its own limit."""
    each = LIMIT - 1
    for number in range(0, times, each):
        fail(min(each, times - number), at=f"10.1.0.{number}")


def later(than: timedelta) -> None:
    """Let that much time pass."""
    for row in AccessAttempt.objects.all():
        AccessAttempt.objects.filter(pk=row.pk).update(attempt_time=row.attempt_time - than)


def test_the_fifth_failure_locks_and_the_right_password_does_not_help_then(boss: User) -> None:
    assert fail(LIMIT - 1).status_code == 200
    assert fail(1).status_code == 429
    assert sign_in(Client()).status_code == 429


def test_four_failures_and_a_success_start_from_nothing_again(boss: User) -> None:
    for _ in range(3):
        fail(LIMIT - 1)
        assert sign_in(Client()).status_code == 302


def test_another_name_or_another_address_is_not_locked(boss: User) -> None:
    User.objects.create_superuser("other", password=PASSWORD)
    fail(LIMIT)
    assert sign_in(Client(), "other").status_code == 302
    assert sign_in(Client(), at="10.0.0.2").status_code == 302


def test_another_browser_at_the_same_address_is_locked_too(boss: User) -> None:
    for number in range(LIMIT):
        fail(1, agent=f"browser {number}")
    assert sign_in(Client(), HTTP_USER_AGENT="another").status_code == 429


def test_an_ipv6_network_is_one_address(boss: User) -> None:
    for number in range(LIMIT):
        fail(1, at=f"2001:4860:1:2::{number}")
    assert sign_in(Client(), at="2001:4860:1:2:ffff::1").status_code == 429
    assert sign_in(Client(), at="2001:4860:1:3::1").status_code == 302


def test_the_page_says_until_when_and_what_an_admin_can_do(boss: User) -> None:
    before = timezone.now()
    answer = fail(LIMIT)
    until: datetime = answer.context["until"]
    assert before < until - configured.AXES_COOLOFF_TIME <= timezone.now()
    assert 890 <= int(answer["Retry-After"]) <= 900
    text = answer.content.decode()
    for part in (f"{until:%H:%M} UTC", "in 15 minutes", "manage.py axes_reset_username", "LOCAL"):
        assert part in text
    assert "default-src 'none'" in answer["Content-Security-Policy"]


def test_it_ends_when_it_said_and_trying_meanwhile_does_not_make_it_longer(boss: User) -> None:
    until = fail(LIMIT).context["until"]
    later(timedelta(minutes=14))
    assert fail(3).context["until"] == until - timedelta(minutes=14)
    later(timedelta(minutes=1, seconds=1))
    assert sign_in(Client()).status_code == 302


def test_guesses_from_many_addresses_lock_the_name_at_addresses_that_it_is_not_known_at(
    boss: User, settings: Settings
) -> None:
    assert sign_in(Client(), at="10.9.9.9").status_code == 302
    fail_from_everywhere(settings.LOGIN_FAILURES_PER_NAME - 1)
    assert sign_in(Client(), at="10.2.0.1").status_code == 302
    fail(1, at="10.3.0.1")
    answer = sign_in(Client(), at="10.2.0.2")
    assert answer.status_code == 429
    assert answer.context["until"] > timezone.now()
    # Nobody is kept out of their own office by strangers.
    assert sign_in(Client(), at="10.9.9.9").status_code == 302


def test_where_somebody_signed_in_from_long_ago_is_not_known_any_more(boss: User, settings: Settings) -> None:
    sign_in(Client(), at="10.9.9.9")
    AccessLog.objects.update(attempt_time=timezone.now() - timedelta(days=91))
    fail_from_everywhere(settings.LOGIN_FAILURES_PER_NAME)
    assert sign_in(Client(), at="10.9.9.9").status_code == 429


def test_an_admin_lets_somebody_in_by_command(boss: User) -> None:
    fail(LIMIT)
    call_command("axes_reset_username", "boss", verbosity=0)
    assert sign_in(Client()).status_code == 302


def test_an_admin_lets_somebody_in_on_a_page_and_that_is_audited(boss: User, admin_client: Client) -> None:
    fail(LIMIT)
    row = AccessAttempt.objects.get()
    assert admin_client.get(f"/admin/axes/accessattempt/{row.pk}/change/").status_code == 200
    assert admin_client.get("/admin/axes/accesslog/").status_code == 200
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    assert admin_client.post("/admin/axes/accessattempt/", chosen).status_code == 302
    told = AuditEntry.objects.get(object_type="failed_sign_in")
    assert (told.verb, told.before) == (
        "delete",
        {"username": "boss", "ip_address": "10.0.0.1", "failures": LIMIT},
    )
    assert sign_in(Client()).status_code == 302


def test_who_may_only_look_cannot_take_failures_back(boss: User, client: Client) -> None:
    fail(1)
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename="view_accessattempt"))
    client.force_login(viewer)
    row = AccessAttempt.objects.get()
    assert client.get(f"/admin/axes/accessattempt/{row.pk}/change/").status_code == 200
    assert client.post(f"/admin/axes/accessattempt/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_neither_passwords_nor_what_may_be_one_are_kept(boss: User, caplog: pytest.LogCaptureFixture) -> None:
    sign_in(Client(), "boss", "hunter2-in-its-field")
    sign_in(Client(), "hunter2-in-the-wrong-field", "x")
    client = Client(enforce_csrf_checks=True)
    client.get("/admin/login/")
    token = client.cookies["csrftoken"].value
    sign_in(client, "boss", "wrong", csrfmiddlewaretoken=token, HTTP_X_CSRFTOKEN=token)
    kept = str(list(AccessAttempt.objects.values())) + caplog.text
    assert "boss" in kept
    assert "unknown-" in kept
    for secret in ("hunter2", token):
        assert secret not in kept


def test_a_name_that_nobody_has_is_locked_like_any_other() -> None:
    assert fail(LIMIT, "nobody").status_code == 429
    assert fail(LIMIT - 1, "somebody").status_code == 200


def test_forced_logins_of_tests_work(boss: User, client: Client) -> None:
    client.force_login(boss)
    assert client.get("/admin/").status_code == 200


def test_old_failures_and_sign_ins_are_pruned(boss: User) -> None:
    fail(2)
    sign_in(Client(), at="10.0.0.2")
    assert prune_sign_ins() == 0
    later(timedelta(minutes=16))
    AccessLog.objects.update(attempt_time=timezone.now() - timedelta(days=91))
    assert prune_sign_ins() == 2


def session_cookie(client: Client) -> Morsel[str]:
    return client.cookies[configured.SESSION_COOKIE_NAME]


def signed_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_a_session_ends_with_the_browser_and_scripts_cannot_read_it(boss: User, client: Client) -> None:
    sign_in(client)
    cookie = session_cookie(client)
    assert (cookie["max-age"], cookie["expires"]) == ("", "")
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")


def test_a_session_ends_twelve_hours_after_signing_in_however_much_it_is_used(
    boss: User, client: Client
) -> None:
    sign_in(client)
    row = Session.objects.get()
    ends = row.expire_date
    assert timedelta(hours=11, minutes=59) < ends - timezone.now() <= timedelta(hours=12)

    session = client.session
    session["_began"] -= 3600
    session["used"] = True
    session.save()
    assert Session.objects.get().expire_date <= ends - timedelta(minutes=59)
    assert signed_in(client)

    session["_began"] -= 11 * 3600
    session.save()
    assert not signed_in(client)


def test_an_anonymous_session_before_does_not_shorten_it(boss: User, client: Client) -> None:
    session = client.session
    session["seen"] = True
    session.save()
    assert "_began" not in session
    sign_in(client)
    assert Session.objects.get().expire_date > timezone.now() + timedelta(hours=11, minutes=59)


def test_changing_the_password_ends_the_other_sessions(boss: User, client: Client) -> None:
    other = Client()
    for one in (client, other):
        sign_in(one)
    new = {
        "old_password": PASSWORD,
        "new_password1": "another-long-one-8",
        "new_password2": "another-long-one-8",
    }
    assert client.post("/admin/password_change/", new).status_code == 302
    assert signed_in(client)
    assert not signed_in(other)


def test_deactivating_somebody_or_taking_their_staff_right_ends_their_sessions(
    boss: User, client: Client
) -> None:
    sign_in(client)
    assert client.get("/api/v1/audit").status_code == 200
    User.objects.update(is_active=False)
    assert not signed_in(client)
    assert client.get("/api/v1/audit").status_code in (401, 403)
    User.objects.update(is_active=True, is_staff=False)
    assert not signed_in(client)


def test_signing_out_deletes_the_session(boss: User, client: Client) -> None:
    sign_in(client)
    client.post("/admin/logout/")
    assert not Session.objects.exists()


def test_sessions_that_ended_are_deleted(boss: User, client: Client) -> None:
    sign_in(client)
    clear_sessions()
    assert Session.objects.count() == 1
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    clear_sessions()
    assert not Session.objects.exists()
