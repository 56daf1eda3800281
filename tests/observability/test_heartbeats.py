"""Heartbeats: who tells them, how often, and what `manage.py health` makes of them."""

import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from celery.signals import after_task_publish, beat_init, task_postrun
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from config.celery import app
from observability import heartbeats, pulses
from observability.heartbeats import Teller
from observability.models import Heartbeat
from tests.factories import NOW

BEAT, WORKER = Heartbeat.Kind.BEAT, Heartbeat.Kind.WORKER


def health(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    try:
        call_command("health", *arguments)
    except SystemExit as end:
        return int(str(end.code)), capsys.readouterr().out
    return 0, capsys.readouterr().out


@pytest.mark.django_db
def test_one_row_for_each_kind_and_host_and_old_hosts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, at in (("gone", NOW - timedelta(days=2)), ("a", NOW), ("b", NOW - timedelta(minutes=1))):
        monkeypatch.setattr(heartbeats, "host", lambda host=host: host)
        heartbeats.tell(WORKER, at, "one")
        heartbeats.tell(WORKER, at + timedelta(seconds=5), "two")
    assert {(row.host, row.task) for row in Heartbeat.objects.all()} == {("a", "two"), ("b", "two")}
    newest = heartbeats.last(WORKER)
    assert (newest.host, newest.silent_seconds(NOW + timedelta(seconds=8))) == ("a", 3.0)
    assert heartbeats.last(WORKER, "b").at == NOW - timedelta(seconds=55)
    assert heartbeats.last(BEAT).at is None


@pytest.mark.django_db
def test_it_is_told_every_ten_seconds_with_the_greatest_lag_since(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    clock = [0.0]
    teller = Teller(BEAT, lambda: NOW, lambda: clock[0])
    teller.tick("one", 0.0)
    with django_assert_num_queries(0):
        for at, lag in ((1.0, 0.2), (5.0, 7.0), (9.0, 0.1)):
            clock[0] = at
            teller.tick("two", lag)
    clock[0] = 10.0
    teller.tick("three", 0.0)
    row = Heartbeat.objects.get()
    assert (row.task, row.lag_seconds) == ("three", 7.0)


def test_what_is_told_of_never_fails_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(heartbeats, "tell", away)
    monkeypatch.setattr(heartbeats, "_no_old_connection", lambda: None)
    Teller(WORKER).tick("one")
    assert "no heartbeat of worker" in caplog.text


@pytest.mark.django_db
def test_only_what_beats_own_thread_sends_is_beats_heartbeat() -> None:
    beat = pulses._Beat()
    beat.sent("before.it.began")
    beat.began(SimpleNamespace(app=app))
    other = threading.Thread(target=beat.sent, args=("of.a.request",))
    other.start()
    other.join()
    assert not Heartbeat.objects.exists()
    beat.sent("telemetry.tasks.drain_spool")
    assert Heartbeat.objects.get().task == "telemetry.tasks.drain_spool"


def test_celery_tells_of_beat_and_tasks() -> None:
    for signal in (beat_init, after_task_publish, task_postrun):
        assert any("observability.pulses" in str(key) for key, _ in signal.receivers)


@pytest.mark.django_db
def test_health_is_well_while_both_work(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (BEAT, WORKER):
        heartbeats.tell(kind, timezone.now(), "some.task")
    code, told = health(capsys)
    assert code == 0
    assert "worker: ok" in told
    assert "some.task" in told


@pytest.mark.django_db
def test_health_fails_for_who_is_silent_or_was_never_heard_of(capsys: pytest.CaptureFixture[str]) -> None:
    heartbeats.tell(BEAT, timezone.now() - timedelta(seconds=91), "some.task")
    code, told = health(capsys)
    assert code == 1
    assert "beat: NOT WELL" in told
    assert "worker: NOT WELL: no heartbeat so far" in told
    assert health(capsys, "beat", "--within", "120")[0] == 0


@pytest.mark.django_db
def test_another_hosts_worker_does_not_speak_for_this_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeats.tell(WORKER, timezone.now(), "some.task")
    monkeypatch.setattr(heartbeats, "host", lambda: "another")
    assert health(capsys, "worker")[0] == 0
    assert health(capsys, "worker", "--here")[0] == 1


def test_health_of_an_unknown_process_is_refused() -> None:
    with pytest.raises(CommandError, match="there is no process 'cron'"):
        call_command("health", "cron")


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (200, b'{"checks": {"database": {"ok": true}, "flag": {"ok": false}}}', 0, "ready; not ok: flag"),
        (503, b'{"checks": {"database": {"ok": false}}}', 1, "not ready (status 503); not ok: database"),
        (502, b"<html>", 1, "status 502, and no readiness"),
    ],
)
def test_health_of_the_web_server_is_its_readiness(
    capsys: pytest.CaptureFixture[str], status: int, body: bytes, code: int, words: str
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        found = health(capsys, "web", "--url", f"http://127.0.0.1:{server.server_port}")
    assert (found[0], words in found[1]) == (code, True)


def test_health_of_a_web_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = health(capsys, "web", "--url", "http://127.0.0.1:1")
    assert (code, "does not answer" in told) == (1, True)
