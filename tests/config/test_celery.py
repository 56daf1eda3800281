"""Whoever imports a task sends it to the product's broker, whatever else the process imported."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from config.celery import app
from tests.services import RedisServer, wait_until


def test_every_task_is_of_the_products_app(tmp_path: Path) -> None:
    modules = sorted({entry["task"].rpartition(".")[0] for entry in app.conf.beat_schedule.values()})
    assert {"commandcenter.tasks", "overrides.tasks", "routing.tasks", "telemetry.tasks"} == {*modules}
    code = (
        "import importlib, sys, django; django.setup();"
        "module = importlib.import_module(sys.argv[1]);"
        "print({one.app.main for one in vars(module).values() if hasattr(one, 'apply_async')})"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path)}
    for module in modules:
        done = subprocess.run(
            [sys.executable, "-c", code, module],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == "{'selection'}", module


@pytest.mark.parametrize("name", ["task_prerun", "before_task_publish", "setup_logging"])
def test_who_imports_it_is_listened_to(name: str) -> None:
    from celery import signals

    assert any("observability.pulses" in str(key) for key, _ in getattr(signals, name).receivers)


#: Sends a task as a page does, for each line it reads, and says what came of it.
SENDER = """
import sys, time, django
django.setup()
from commandcenter.views.audit import _enqueue
for line in sys.stdin:
    began = time.monotonic()
    try:
        _enqueue("check", "tester")
        told = "sent"
    except ConnectionError:
        told = "not sent"
    print(told, "in time" if time.monotonic() - began < 30 else "late", flush=True)
"""


@contextmanager
def python(broker: RedisServer, folder: Path, *command: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of ours on that broker; what it says is in ``folder``/said."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATA_DIR": str(folder),
        "REDIS_URL": broker.url,
    }
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.mark.slow
@pytest.mark.services
def test_a_silent_broker_keeps_nobody_who_sends_a_task(broker: RedisServer, tmp_path: Path) -> None:
    with python(broker, tmp_path, "-c", SENDER) as sender:

        def sent() -> list[str]:
            before = len(said())
            print(file=sender.stdin)
            wait_until(lambda: len(said()) > before, "an answer")
            return said()

        def said() -> list[str]:
            return [line for line in (tmp_path / "said").read_text().splitlines() if "sent" in line]

        assert sent() == ["sent in time"]
        broker.server.pause()
        assert sent()[1:] == ["not sent in time"]
        broker.server.resume()
        assert sent()[2:] == ["sent in time"]


@pytest.mark.slow
@pytest.mark.services
def test_a_beat_that_waits_for_its_broker_ends_when_it_is_asked_to(
    broker: RedisServer, tmp_path: Path
) -> None:
    with python(broker, tmp_path, "-m", "celery", "-A", "config", "beat") as beat:
        queue = Redis.from_url(broker.url)
        wait_until(lambda: queue.llen("celery") > 0, "tasks sent")
        broker.server.pause()
        # One is sent every second, and now gets no answer.
        time.sleep(2)
        beat.terminate()
        assert beat.wait(timeout=10) == 0
        assert "Traceback" not in (tmp_path / "said").read_text()
