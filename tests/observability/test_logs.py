"""Log lines: one request's can be found by its id, machines can read them, and no secret is in them."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone

from config.celery import app
from config.env import Env
from observability import ids, requests
from observability.logs import FIELDS, Context, JsonLines, Lines, without_secrets
from overrides.models import AuditEntry
from routing import delivering, selection, webhooks
from routing.models import Webhook
from tests import factories
from tests.check_deploy import production_environment
from tests.overrides.people import REASON, call
from tests.routing.scenes import ASKED, ranked_scope

log = logging.getLogger("tests.observability")


@pytest.fixture
def written() -> Iterator[Callable[[], str]]:
    """Everything that is logged, as JSON lines, DEBUG too."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(Context())
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield out.getvalue
    root.removeHandler(handler)
    root.setLevel(level)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_has_known_fields_and_nothing_that_a_library_attached(written: Callable[[], str]) -> None:
    ids.bind("req-1")
    log.warning("%s of\ntwo lines", "message", extra={"request": "the whole request", "prompt": "secret"})
    ids.unbind()
    log.info("of nothing")
    first, second = lines(written())
    assert set(first) <= set(FIELDS)
    assert (first["level"], first["logger"], first["message"]) == (
        "WARNING",
        "tests.observability",
        "message of\ntwo lines",
    )
    assert first["request_id"] == "req-1"
    assert first["time"].endswith("Z")
    assert "request_id" not in second


def test_lines_for_people_have_the_id_too() -> None:
    record = logging.LogRecord("a.b", logging.INFO, "x", 1, "said %s", ("this",), None)
    ids.bind("req-2")
    Context().filter(record)
    ids.unbind()
    assert Lines().format(record).endswith("INFO a.b [req-2] said this")
    bare = logging.LogRecord("a.b", logging.INFO, "x", 1, "said", None, None)
    assert Lines().format(bare).endswith("INFO a.b said")


@pytest.mark.parametrize(
    ("mode", "given", "is_json"),
    [("LOCAL", "", False), ("PRODUCTION", "", True), ("LOCAL", "json", True), ("PRODUCTION", "line", False)],
)
def test_production_logs_json_unless_told(
    monkeypatch: pytest.MonkeyPatch, mode: str, given: str, is_json: bool
) -> None:
    monkeypatch.setenv("DEPLOYMENT_MODE", mode)
    monkeypatch.setenv("LOG_FORMAT", given)
    assert Env().logs_json is is_json


def test_the_settings_use_these_formats_and_celery_keeps_them() -> None:
    logging_settings: dict[str, Any] = django_settings.LOGGING
    console = logging_settings["handlers"]["console"]
    assert (console["formatter"], console["filters"]) == ("line", ["context"])
    assert setup_logging.receivers


@pytest.mark.django_db
def test_an_answer_names_its_request_and_an_error_too(client: Client) -> None:
    ranked_scope()
    key = factories.key("select")
    answer = call(client, "post", "/selections", ASKED, {**key, "X-Request-ID": "worker-7:c-1"})
    assert answer["X-Request-ID"] == "worker-7:c-1"
    unknown = call(client, "post", "/selections", {**ASKED, "persona": "x"}, {**key, "X-Request-ID": "w-8"})
    assert (unknown.status_code, unknown.json()["request_id"]) == (404, "w-8")
    nowhere = client.get("/api/v1/nowhere")
    assert nowhere.json()["request_id"] == nowhere["X-Request-ID"]
    assert client.get("/healthz")["X-Request-ID"]
    assert ids.current() is None


@pytest.mark.parametrize("given", ["", "x" * 101, "a b", "<script>", "é", "-leading", "new\tline"])
def test_an_id_that_could_do_harm_is_replaced(client: Client, given: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": given})
    assert answer["X-Request-ID"] != given
    assert len(answer["X-Request-ID"]) == 32


@pytest.mark.django_db
def test_logs_of_a_failed_request_have_its_id_and_no_key(
    client: Client, written: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_scope()
    key = factories.key("select")
    secret = key["Authorization"].split()[1]

    def fail(*_: Any) -> None:
        # As careless as an exception's text can be.
        raise RuntimeError(f"could not send {{'Authorization': '{key['Authorization']}'}} or {secret}")

    monkeypatch.setattr(selection, "_select", fail)
    client.raise_request_exception = False
    asked = {**ASKED, "conversation_id": "c-private"}
    answer = call(client, "post", "/selections?token=hush-hush", asked, {**key, "X-Request-ID": "r-500"})
    assert answer.status_code == 500
    text = written()
    found = [line for line in lines(text) if line.get("request_id") == "r-500" and "exc_info" in line]
    assert "RuntimeError" in found[0]["exc_info"]
    assert secret not in text
    assert secret.partition(".")[2] not in text
    assert "hush-hush" not in text
    assert "c-private" not in text


@pytest.mark.django_db
def test_the_audit_log_and_the_answer_name_the_same_request(client: Client) -> None:
    ranked_scope()
    wish = {
        "kind": "lock",
        "profile": "cheap",
        "tenant": "aurora",
        "persona": "essayist",
        "reason": REASON,
        "expires_at": (timezone.now() + timedelta(hours=1)).isoformat(),
    }
    answer = call(client, "post", "/settings/overrides", wish, factories.key())
    assert answer.status_code == 201, answer.content
    assert AuditEntry.objects.latest("seq").request_id == answer["X-Request-ID"]


@pytest.mark.django_db
def test_a_webhooks_secret_and_address_are_in_no_line(
    written: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = webhooks.new_secret()
    url = "https://127.0.0.1:1/hook-of-ours?token=hush-hush"
    Webhook.objects.create(name="ops", url=url, secret=secret)
    now = timezone.now()
    webhooks.tell("e-1", webhooks.ALERT_TYPE, '{"prompt": "hush-hush"}', now)
    delivering.deliver(now)
    text = written()
    assert Webhook.objects.get().deliveries.get().attempts == 1
    assert "hush-hush" not in text
    assert secret not in text


@pytest.mark.parametrize(
    "secret",
    [
        "Authorization: Api-Key abcdEFGH.abcdefghijklmnopqrstuvwxyz012345",
        "key abcdEFGH.abcdefghijklmnopqrstuvwxyz012345 is",
        "Bearer sk-abcdefghijklmnopqrstuvwxyz012345",
        "whsec_abcdefghijklmnopqrstuvwxyz012345",
        "postgres://selection:abcdefghijklmnopqrstuvwxyz012345@db/x",
        "GET /x?password=abcdefghijklmnopqrstuvwxyz012345&a=1",
    ],
)
def test_what_looks_like_a_secret_is_left_out(secret: str) -> None:
    told = without_secrets(f"before {secret} after")
    assert "abcdefghijklmnopqrstuvwxyz012345" not in told
    assert "[hidden]" in told
    assert told.startswith("before ")
    assert told.endswith(" after")


def test_what_is_no_secret_stays() -> None:
    text = (
        "selection-1.25 gpt-5.4 https://api.example.com/v1 2026-11-28 snapshot 7.1 key:abcdEFGH lost by 0.03"
    )
    assert without_secrets(text) == text


def test_a_slow_request_is_told_of_by_route(caplog: pytest.LogCaptureFixture) -> None:
    requests.count_request("GET", "selections", 200, requests.SLOW_SECONDS + 1)
    assert "GET selections took 3.0 s (status 200)" in caplog.text


def test_a_task_goes_on_under_the_id_of_its_request_and_else_under_its_own() -> None:
    app.loader.import_default_modules()
    task = app.tasks["routing.tasks.check_alerts"]
    ids.bind("r-9")
    headers: dict[str, Any] = {}
    before_task_publish.send(sender=task.name, headers=headers)
    ids.unbind()
    for message, expected in ((headers, "r-9"), ({}, "task-1")):
        task.push_request(id="task-1", **message)
        try:
            task_prerun.send(sender=task, task_id="task-1", task=task)
            assert ids.current() == expected
        finally:
            task.pop_request()
        ids.unbind()
    other: dict[str, Any] = {}
    before_task_publish.send(sender=task.name, headers=other)
    assert other == {}


def test_after_a_task_nothing_goes_on_under_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    from observability import pulses

    monkeypatch.setattr(pulses._work._teller, "tick", lambda *_: None)
    app.loader.import_default_modules()
    task = app.tasks["routing.tasks.check_alerts"]
    task_prerun.send(sender=task, task_id="task-2", task=task)
    assert ids.current() == "task-2"
    task_postrun.send(sender=task, task_id="task-2", task=task, state="SUCCESS")
    assert ids.current() is None


def test_the_workers_client_names_its_requests() -> None:
    from worker.wire import named

    assert named("5f0c-1") == {"X-Request-ID": "5f0c-1"}
    assert named(None) == named("no\r\nheader: x") == {}
    assert httpx.Headers(named("5f0c-1"))["x-request-id"] == "5f0c-1"


def test_a_production_process_writes_json_to_standard_error(tmp_path: Path) -> None:
    code = "import django, logging; django.setup(); logging.getLogger('a.b').warning('Bearer abcdefgh of %s', 'x')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=production_environment(DJANGO_SETTINGS_MODULE="config.settings", DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    [line] = lines(done.stderr)
    assert (line["logger"], line["message"]) == ("a.b", "Bearer [hidden] of x")
