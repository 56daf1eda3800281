"""/healthz and /readyz, through the front door: alive is not ready, and a starving process is not."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from catalog.outage import outage
from catalog.versions import bump_version
from observability import heartbeats
from observability.models import Heartbeat
from routing import bundle, readiness
from tests.routing.scenes import ranked_scope


@pytest.fixture(autouse=True)
def _look_at_the_disk_anew() -> None:
    readiness.disk.forget()


def ready(client: Client, query: str = "") -> tuple[int, dict[str, Any]]:
    answer = client.get(f"/readyz{query}")
    assert answer["Cache-Control"].startswith("max-age=0")
    return answer.status_code, answer.json()["checks"]


def test_alive_reads_nothing(client: Client) -> None:
    # Without the mark django_db a query would fail.
    answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")
    assert client.post("/healthz").status_code == 405


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
@pytest.mark.django_db
def test_probes_may_come_by_address_and_without_https(client: Client, settings: Any, path: str) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["selection.example.com"], True
    assert client.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/metrics", headers={"host": "10.1.2.3:8000"}).status_code == 400


@pytest.mark.django_db
def test_ready_when_database_policy_and_disk_are_well(client: Client) -> None:
    ranked_scope()
    status, checks = ready(client)
    assert status == 200
    assert {name: check["ok"] for name, check in checks.items()} == {
        "database": True,
        "policy": True,
        "disk": True,
        "flag": True,
    }


@pytest.mark.django_db
def test_a_policy_that_cannot_be_rebuilt_for_long_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    clock = [100.0]
    real = bundle.BundleKeeper

    def keeper(refresh_seconds: float, **options: Any) -> bundle.BundleKeeper:
        return real(refresh_seconds, lambda: clock[0], **options)

    monkeypatch.setattr(bundle, "BundleKeeper", keeper)
    ranked_scope()
    bundle.forget_bundle()
    assert ready(client)[0] == 200

    def broken(*_: Any) -> Any:
        raise ValueError("a policy that nobody can read")

    with monkeypatch.context() as patched:
        patched.setattr(bundle, "build", broken)
        bump_version()
        clock[0] += readiness.BEHIND_SECONDS - 1
        assert ready(client)[0] == 200
        clock[0] += 2
        status, checks = ready(client)
        assert (status, checks["policy"]["ok"], checks["database"]["ok"]) == (503, False, True)
        assert checks["policy"]["behind_seconds"] > readiness.BEHIND_SECONDS
    assert ready(client)[0] == 200


@pytest.mark.django_db
def test_a_policy_that_was_never_readable_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "read_policy", dict)
    status, checks = ready(client)
    assert (status, checks["policy"], checks["database"]["ok"]) == (503, {"ok": False}, True)


@pytest.mark.django_db
def test_a_database_that_answers_late_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked_scope()
    monkeypatch.setattr(readiness, "SLOW_SECONDS", -1.0)
    status, checks = ready(client)
    assert (status, checks["database"]["ok"]) == (503, False)


@pytest.mark.django_db
def test_a_disk_that_cannot_be_written_to_is_not_ready(client: Client, settings: Any, tmp_path: Path) -> None:
    ranked_scope()
    settings.DATA_DIR = tmp_path / "file"
    settings.DATA_DIR.write_text("no folder")
    status, checks = ready(client)
    assert (status, checks["disk"]["ok"]) == (503, False)
    assert str(tmp_path) not in str(checks)


@pytest.mark.django_db
def test_a_disk_that_is_nearly_full_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked_scope()
    real = os.statvfs

    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr("routing.readiness.os.statvfs", lambda path: Full() if path else real(path))
    status, checks = ready(client)
    assert (status, checks["disk"]) == (503, {"ok": False, "free_bytes": 4096})


@pytest.mark.django_db
def test_a_cache_that_is_away_is_told_and_does_not_count(client: Client, settings: Any) -> None:
    ranked_scope()
    nowhere = "redis://127.0.0.1:1/0"
    settings.ENV = settings.ENV.model_copy(update={"redis_url": nowhere})
    settings.CACHES = {
        **settings.CACHES,
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": nowhere},
    }
    status, checks = ready(client)
    assert (status, checks["cache"]) == (200, {"ok": False})


@pytest.mark.django_db
def test_silent_beat_and_workers_are_told_on_demand_and_do_not_count(client: Client) -> None:
    ranked_scope()
    now = timezone.now()
    heartbeats.tell(Heartbeat.Kind.BEAT, now, "drain", 0.5)
    heartbeats.tell(Heartbeat.Kind.WORKER, now - 2 * heartbeats.SILENT, "drain")
    assert "beat" not in ready(client)[1]
    status, checks = ready(client, "?full=1")
    assert status == 200
    assert (checks["beat"]["ok"], checks["beat"]["lag_seconds"]) == (True, 0.5)
    assert (checks["worker"]["ok"], checks["worker"]["silent_seconds"] >= 180) == (False, True)
    assert heartbeats.host() not in str(checks)


@pytest.mark.django_db(transaction=True)
def test_a_process_that_gets_no_connection_is_not_ready(client: Client) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no pool: runs with tests.on_postgres")
    ranked_scope()
    assert ready(client)[0] == 200
    connection.close()
    size = connection.settings_dict["OPTIONS"]["pool"]["max_size"]
    held, release = threading.Barrier(size + 1), threading.Event()

    def hold() -> None:
        connection.ensure_connection()
        held.wait(10)
        release.wait(20)
        connection.close()

    holders = [threading.Thread(target=hold) for _ in range(size)]
    for one in holders:
        one.start()
    held.wait(10)
    try:
        status, checks = ready(client)
    finally:
        release.set()
        for one in holders:
            one.join()
    assert (status, checks["database"]["ok"]) == (503, False)
    outage.end()
    assert ready(client)[0] == 200
