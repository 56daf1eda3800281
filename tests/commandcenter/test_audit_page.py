"""The audit log on its page: filters, differences, verification, export, undo of one entry and of an actor."""

import csv
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from importlib import import_module
from typing import Any

import orjson
import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisDown

from commandcenter import diffs, rights, verifying
from commandcenter.tasks import verify_audit_log
from commandcenter.views import audit as audit_view
from overrides import checkpoints, services
from overrides.audit import Actor, hash_of
from overrides.models import AuditEntry, KillSwitch, Override
from routing.bundle import forget_bundle
from tests import factories
from tests.commandcenter.html import hidden
from tests.commandcenter.test_flags import HTMX, words
from tests.overrides.people import REASON, someone
from tests.routing.scenes import ranked_scope

pytestmark = pytest.mark.django_db
AUDIT, EXPORT, VERIFY, UNDO = (f"/admin/center/audit/{name}" for name in ("", "export", "verify", "undo"))
EVE = Actor("user:eve", "operator", "203.0.113.7", "request-42")
Budget = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def admin() -> Client:
    ranked_scope()
    factories.tenant("borealis")
    forget_bundle()
    return someone("anna", role="admin", may=("override_all_tenants",))


def override(tenant: str | None = "aurora", actor: Actor = EVE, reason: str = REASON) -> Override:
    now = timezone.now()
    wish = services.Wish("exclude", "cheap", reason, tenant, "essayist", None, now + timedelta(hours=1))
    return services.create_override(wish, actor, now)


def switch(tenant: str | None, on: bool, actor: Actor = EVE) -> None:
    services.set_kill_switch(tenant, on, REASON, actor, timezone.now())


def lines(answer: Any) -> list[str]:
    return list(b"".join(answer.streaming_content).decode().splitlines())


# --- entries ---


def test_an_entry_opens_to_its_difference_with_who_where_and_why(admin: Client) -> None:
    row = override()
    page = words(admin.get(AUDIT))
    for word in (
        "user:eve",
        f"create override {row.pk}",
        "203.0.113.7",
        "request-42",
        REASON,
        "exclude",
        "aurora",
    ):
        assert word in page
    assert "not there" in page  # before it was made


def test_filters_stand_in_the_address(admin: Client) -> None:
    first = override("aurora")
    override("borealis", Actor("user:carl", "operator"))
    switch("borealis", True)
    yesterday = (timezone.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    found = {
        "actor=user:carl": {2},
        "verb=switch": {3},
        "object_type=override": {1, 2},
        f"object_type=override&object_id={first.pk}": {1},
        "tenant=borealis": {2, 3},
        f"since={yesterday}": {1, 2, 3},
        f"until={yesterday}": set(),
        "actor=user:nobody": set(),
    }
    for query, seqs in found.items():
        page = admin.get(f"{AUDIT}?{query}").content.decode()
        assert {seq for seq in (1, 2, 3) if f'id="entry-{seq}"' in page} == seqs, query
    assert "No entry matches" in admin.get(f"{AUDIT}?actor=user:nobody").content.decode()


@pytest.mark.parametrize("query", ["since=yesterday", "until=2026-13-01", "verb=eat", "object_type=cake"])
def test_a_filter_that_cannot_be_read_is_told_and_nothing_is_shown(admin: Client, query: str) -> None:
    override()
    answer = admin.get(f"{AUDIT}?{query}")
    assert answer.status_code == 400
    assert 'id="entry-1"' not in answer.content.decode()
    assert "errors" in answer.content.decode()
    assert admin.get(f"{EXPORT}?format=csv&{query}").status_code == 400


def test_pages_follow_each_other_by_number(admin: Client) -> None:
    for number in range(120):
        switch("aurora", number % 2 == 0)
    first = admin.get(AUDIT).content.decode()
    assert 'id="entry-120"' in first
    assert "before=71" in first
    second = admin.get(f"{AUDIT}?before=71").content.decode()
    assert 'id="entry-70"' in second
    assert 'id="entry-71"' not in second
    back = admin.get(f"{AUDIT}?after=70").content.decode()
    assert 'id="entry-71"' in back
    assert 'id="entry-120"' in back
    last = admin.get(f"{AUDIT}?before=21").content.decode()
    assert 'rel="next"' not in last
    assert admin.get(f"{AUDIT}?before=99999999999999999999999").status_code == 200


def test_the_page_takes_few_queries(
    admin: Client, admin_client: Client, django_assert_max_num_queries: Budget
) -> None:
    for number in range(80):
        switch("aurora", number % 2 == 0)
    checkpoints.write(timezone.now())
    admin_client.get(AUDIT)
    with django_assert_max_num_queries(12):
        admin_client.get(AUDIT)


def test_of_5000_shares_the_one_that_changed_is_shown() -> None:
    shares = {f"tenant-{n}": "5" for n in range(5000)}
    before = {"tenants": shares, "everyone": None, "id": 1}
    after = {**before, "tenants": {**shares, "tenant-7": "9"}, "everyone": True, "id": 2}
    found = diffs.difference(before, after)
    assert [(line.name, line.old, line.new) for line in found.lines] == [
        ("tenants › tenant-7", "5", "9"),
        ("everyone", "—", "yes"),
    ]
    many = diffs.difference(None, {str(n): n for n in range(100)})
    assert (len(many.lines), many.more) == (diffs.MOST, 100 - diffs.MOST)


# --- whether it is as it was written ---


def test_a_short_log_is_verified_at_once_and_the_result_stays(admin: Client) -> None:
    override()
    assert "It was not checked lately" in words(admin.get(AUDIT))
    checkpoints.write(timezone.now())
    told = words(admin.post(VERIFY, headers=HTMX))
    assert "✓ Verified" in told
    assert "1 entries, all as they were written. 1 signed checkpoints, all fit" in told
    page = words(admin.get(AUDIT))
    assert "asked by user:anna" in page
    assert "Last signed checkpoint: entry 1" in page
    assert "It fits the log" in page


def test_a_log_that_was_tampered_with_says_where(admin: Client) -> None:
    override()
    checkpoints.write(timezone.now())
    _tamper("UPDATE overrides_auditentry SET reason = 'nothing to see here' WHERE seq = 1")
    told = words(admin.post(VERIFY, headers=HTMX))
    assert "The audit log is not as it was written" in told
    assert "The chain breaks at entry 1" in told


def test_a_log_that_was_rewritten_whole_does_not_fit_its_checkpoint(admin: Client) -> None:
    override()
    checkpoints.write(timezone.now())
    entry = AuditEntry.objects.get()
    entry.reason = "nothing to see here"
    fake = hash_of(entry)
    _tamper(f"UPDATE overrides_auditentry SET reason = 'nothing to see here', hash = '{fake}'")
    _tamper(f"UPDATE overrides_audithead SET hash = '{fake}'")
    assert "was rewritten after" in words(admin.get(AUDIT))
    assert "was rewritten after" in words(admin.post(VERIFY, headers=HTMX))


def _tamper(statement: str) -> None:
    made, dropped = import_module("overrides.migrations.0003_audit_append_only").STATEMENTS[connection.vendor]
    with connection.cursor() as cursor:
        for one in (*dropped, statement, *made):
            cursor.execute(one)


def test_a_long_log_is_verified_by_a_task_with_progress(admin: Client, monkeypatch: Any) -> None:
    for number in range(5):
        switch("aurora", number % 2 == 0)
    monkeypatch.setattr(verifying, "AT_ONCE", 3)
    monkeypatch.setattr("overrides.audit._AT_ONCE", 2)
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(audit_view, "_enqueue", lambda check, by: asked.append((check, by)))
    told = words(admin.post(VERIFY, headers=HTMX))
    assert "0 of 5 entries" in told
    assert 'hx-trigger="every 2s"' in told
    admin.post(VERIFY, headers=HTMX)  # one is under way already
    assert len(asked) == 1
    seen: list[int] = []
    keep = verifying._keep

    def kept(check: verifying.Check) -> None:
        seen.append(check.done)
        keep(check)

    monkeypatch.setattr(verifying, "_keep", kept)
    assert verify_audit_log(*asked[0]) == "fits"
    assert seen == [0, 2, 4, 5]
    assert "✓ Verified" in words(admin.get(VERIFY, headers=HTMX))
    assert verify_audit_log("another", "user:x") == "superseded"


def test_a_check_that_tells_nothing_is_given_up(admin: Client, monkeypatch: Any) -> None:
    override()
    old = (timezone.now() - timedelta(minutes=5)).isoformat()
    verifying._keep(verifying.Check("x", "user:anna", "running", old, old, 10, 4))
    assert "Is a worker running?" in words(admin.get(AUDIT))
    assert "✓ Verified" in words(admin.post(VERIFY, headers=HTMX))


def test_without_a_broker_it_says_so(admin: Client, monkeypatch: Any) -> None:
    override()
    monkeypatch.setattr(verifying, "AT_ONCE", 0)

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr(verify_audit_log, "apply_async", away)
    assert "The broker is away" in words(admin.post(VERIFY, headers=HTMX))


def test_without_a_cache_the_page_stands(admin: Client, monkeypatch: Any) -> None:
    override()

    def away(*_: Any, **__: Any) -> None:
        raise RedisDown("no cache")

    monkeypatch.setattr(cache, "get", away)
    monkeypatch.setattr(cache, "set", away)
    assert "It was not checked lately" in words(admin.get(AUDIT))
    assert admin.post(VERIFY, headers=HTMX).status_code == 200


def test_a_check_that_fails_is_told_as_failed(admin: Client, monkeypatch: Any) -> None:
    override()

    def broken(**_: Any) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr("commandcenter.verifying.audit.verify", broken)
    with pytest.raises(RuntimeError):
        admin.post(VERIFY, headers=HTMX)
    assert "came to no end" in words(admin.get(AUDIT))


def test_the_chain_is_of_all_tenants_so_one_tenant_s_people_do_not_check_it(admin: Client) -> None:
    olga = someone("olga", at={"aurora": "operator"})
    assert olga.post(VERIFY).status_code == 403
    assert "this takes a role at all of them" in words(olga.get(AUDIT))


# --- export ---


def test_the_export_holds_what_is_filtered_and_nothing_that_a_spreadsheet_runs(admin: Client) -> None:
    override(reason="=HYPERLINK(0) and more")
    override("borealis", Actor("user:carl", "operator"))
    answer = admin.get(f"{EXPORT}?format=csv&actor=user:eve")
    assert "attachment" in answer["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines(answer)))))
    assert [row["actor"] for row in rows] == ["user:eve"]
    assert rows[0]["reason"] == "'=HYPERLINK(0) and more"
    assert orjson.loads(rows[0]["after"])["kind"] == "exclude"
    told = [orjson.loads(line) for line in lines(admin.get(f"{EXPORT}?format=ndjson"))]
    assert [entry["seq"] for entry in told] == [1, 2]
    assert admin.get(f"{EXPORT}?format=xlsx").status_code == 400


def test_the_export_is_streamed_in_pieces(admin: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("overrides.exporting._AT_ONCE", 3)
    for number in range(7):
        switch("aurora", number % 2 == 0)
    answer: Any = admin.get(f"{EXPORT}?format=ndjson")
    assert answer.streaming
    assert [orjson.loads(line)["seq"] for line in lines(answer)] == list(range(1, 8))


def test_people_of_one_tenant_export_that_tenant_s(admin: Client) -> None:
    override("aurora")
    override("borealis")
    override(None)
    olga = someone("olga", at={"aurora": "viewer"})
    told = [orjson.loads(line) for line in lines(olga.get(f"{EXPORT}?format=ndjson"))]
    assert [entry["tenant"] for entry in told] == ["aurora", None]
    page = olga.get(AUDIT).content.decode()
    assert "borealis" not in page


# --- undo of one entry ---


def test_an_entry_is_taken_back_by_a_new_change(admin: Client) -> None:
    row = override()
    panel = admin.get(f"{AUDIT}1/undo", headers=HTMX)
    assert "it is switched off" in words(panel)
    body = {**hidden(panel.content.decode()), "reason": "it was a mistake"}
    assert admin.post(f"{AUDIT}1/undo", {**body, "reason": "short"}, headers=HTMX).status_code == 400
    for _ in range(2):  # a double click
        done = admin.post(f"{AUDIT}1/undo", body, headers=HTMX)
        assert "Entry 1 is taken back" in words(done)
    row.refresh_from_db()
    assert row.revoked_at
    assert [entry.verb for entry in AuditEntry.objects.order_by("seq")] == ["create", "undo"]


def test_what_others_changed_afterwards_stays_and_says_so(admin: Client) -> None:
    switch("aurora", True)
    switch("aurora", False, Actor("user:carl", "operator"))
    panel = admin.get(f"{AUDIT}1/undo", headers=HTMX)
    assert "user:carl changed it afterwards" in words(panel)
    late = admin.post(f"{AUDIT}1/undo", {"key": "k", "reason": REASON}, headers=HTMX)
    assert late.status_code == 409
    assert "user:carl changed it afterwards" in words(late)
    toast = admin.post(f"{AUDIT}1/undo", {"key": "k2", "reason": REASON, "toast": "1"}, headers=HTMX)
    assert (toast.status_code, toast["HX-Reswap"]) == (409, "none")


def test_undo_takes_the_right_and_a_foreign_entry_is_not_there(admin: Client) -> None:
    override("aurora")
    override("borealis")
    vera = someone("vera", at={"aurora": "viewer"})
    assert vera.get(f"{AUDIT}1/undo").status_code == 403
    assert vera.post(f"{AUDIT}1/undo", {"key": "k", "reason": REASON}).status_code == 403
    olga = someone("olga", at={"aurora": "operator"})
    assert olga.get(f"{AUDIT}1/undo").status_code == 200
    assert olga.get(f"{AUDIT}2/undo").status_code == 404
    assert olga.post(f"{AUDIT}2/undo", {"key": "k", "reason": REASON}).status_code == 404
    assert "This takes the right “override” at aurora." in words(vera.get(AUDIT))


def test_the_verbs_are_those_of_the_api() -> None:
    peoples = {
        "tenant": "catalogue",
        "modelprofile": "catalogue",
        "pricerevision": "catalogue",
        "scopedefault": "catalogue",
        "servicekey": "access",
        "user": "access",
        "group": "access",
    }
    verbs = {
        "override": "override",
        "kill_switch": "override",
        "persona": "personas",
        "flag": "flags",
        "rollout": "flags",
    }
    assert {**peoples, **verbs} == rights.VERB_OF


# --- undo of everything by an actor ---


def plan(client: Client, **more: str) -> Any:
    return client.get(UNDO, {"actor": "user:eve", "since": "2026-01-01", **more})


def test_the_plan_comes_first_and_just_that_plan_is_done(admin: Client) -> None:
    override("aurora")
    override("borealis")
    switch("aurora", True)
    switch("aurora", False, Actor("user:carl", "operator"))
    page = plan(admin)
    told = words(page)
    assert "<strong>2</strong> objects go back" in told
    assert "<strong>1</strong> stays as it is" in told
    assert "user:carl changed it afterwards" in told
    body = {**hidden(page.content.decode()), "reason": "her account was taken over"}
    wrong = admin.post(UNDO, {**body, "confirm": "eve"})
    assert (wrong.status_code, Override.objects.filter(revoked_at=None).count()) == (400, 2)
    assert "Type user:eve to confirm it" in words(wrong)
    for _ in range(2):  # sent twice
        done = admin.post(UNDO, {**body, "confirm": "user:eve"})
        assert "2 of 3 objects are taken back" in words(done)
    assert not Override.objects.filter(revoked_at=None).exists()
    assert AuditEntry.objects.filter(verb="undo", actor="user:anna").count() == 2


def test_a_plan_that_is_old_is_not_done(admin: Client) -> None:
    override("aurora")
    body = {**hidden(plan(admin).content.decode()), "reason": REASON, "confirm": "user:eve"}
    override("borealis")
    late = admin.post(UNDO, body)
    assert late.status_code == 409
    assert "Something changed since this plan was made" in words(late)
    assert Override.objects.filter(revoked_at=None).count() == 2


def test_of_the_plan_one_sees_and_does_what_one_may(admin: Client) -> None:
    override("aurora")
    override("borealis")
    switch(None, True)
    olga = someone("olga", at={"aurora": "operator"})
    page = plan(olga)
    assert "borealis" not in page.content.decode()
    assert "This takes the rights “override” and “all tenants at once”." in words(page)
    body = {**hidden(page.content.decode()), "reason": REASON, "confirm": "user:eve"}
    assert "1 of 2 objects" in words(olga.post(UNDO, body))
    assert Override.objects.filter(revoked_at=None).get().tenant.slug == "borealis"  # type: ignore[union-attr]
    assert KillSwitch.objects.get().on
    assert someone("vera", at={"aurora": "viewer"}).get(UNDO).status_code == 403


def test_without_a_time_or_with_nothing_to_do_it_says_so(admin: Client) -> None:
    assert admin.get(UNDO).status_code == 200
    asked = admin.get(UNDO, {"actor": "user:eve"})
    assert (asked.status_code, "Say since when" in words(asked)) == (400, True)
    assert "changed nothing since then" in words(plan(admin))
