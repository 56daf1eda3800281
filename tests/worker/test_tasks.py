"""The queue's consumer: the real Celery worker over Redis, killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from demo.provider import Failure
from tests.services import RedisServer, wait_until
from tests.worker.api import serving
from tests.worker.scenes import DEFAULT, message, playing, policy, settings
from worker.settings import BadSettings
from worker.tasks import BadMessage, make_app, read_message, send

ROOT = Path(__file__).parents[2]


def test_it_needs_a_broker(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="WORKER_BROKER_URL"):
        make_app(settings(tmp_path, "http://127.0.0.1:9"))


def test_what_is_no_message_is_named_field_by_field_and_not_quoted() -> None:
    raw = {**message().model_dump(), "persona": "A secret", "extra": 1}
    with pytest.raises(BadMessage) as found:
        read_message(raw)
    assert "persona: " in str(found.value)
    assert "extra: " in str(found.value)
    assert "secret" not in str(found.value)


def test_a_message_is_acknowledged_once_it_is_answered(tmp_path: Path) -> None:
    app = make_app(settings(tmp_path, "http://127.0.0.1:9", broker_url="memory://"))
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1


@pytest.mark.services
def test_messages_are_consumed_answered_and_survive_their_worker(tmp_path: Path, broker: RedisServer) -> None:
    with serving(policy()) as api, playing() as provider:
        fields = {"broker_url": broker.url, "result_url": broker.url, "provider_urls": {"*": provider.url}}
        app = make_app(settings(tmp_path, api.url, **fields))
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = {
            **kept,
            "WORKER_API_URL": api.url,
            "WORKER_API_KEY": "key",
            "WORKER_STATE_DIR": str(tmp_path),
            "WORKER_DEFAULT_PROFILE": DEFAULT.model_dump_json(),
            "WORKER_READ_TIMEOUT_MS": "5000",
            "WORKER_PROVIDER_URLS": f'{{"*": "{provider.url}"}}',
            "WORKER_BROKER_URL": broker.url,
            "WORKER_RESULT_URL": broker.url,
        }

        def start() -> subprocess.Popen[bytes]:
            log = (tmp_path / "log").open("ab")
            return subprocess.Popen(
                [sys.executable, "-m", "worker", "run"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

        process = start()
        try:
            results = [send(app, message(f"c-{n}", f"m-{n}")) for n in range(5)]
            answers = [result.get(timeout=30) for result in results]
            assert [answer["profile"] for answer in answers] == ["cheap"] * 5
            wait_until(lambda: len(api.events) == 5, "reports", 10)

            # Killed while a provider hangs: the message is not acknowledged, and the next worker answers it.
            provider.behave(error_rate=1, failures=(Failure.HANG,))
            again = send(app, message("c-9", "m-9"))
            wait_until(lambda: len(provider.calls) == 6, "the call", 10)
            process.send_signal(signal.SIGKILL)
            process.wait()
            provider.behave(error_rate=0)
            _return_unacknowledged(broker.url)
            process = start()
            assert again.get(timeout=30)["profile"] == "cheap"
            wait_until(lambda: len(api.events) == 6, "its report", 10)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
        assert b"Traceback" not in (tmp_path / "log").read_bytes()
        assert b"secret" not in (tmp_path / "log").read_bytes()


@pytest.mark.services
@pytest.mark.slow
def test_who_sends_to_a_silent_broker_is_told_so_within_a_minute(tmp_path: Path, broker: RedisServer) -> None:
    app = make_app(settings(tmp_path, "http://127.0.0.1:9", broker_url=broker.url))
    send(app, message())
    broker.server.pause()
    began = time.monotonic()
    with pytest.raises(OperationalError):
        send(app, message())
    assert time.monotonic() - began < 60


def _return_unacknowledged(broker: str) -> None:
    """What Redis' transport does by itself once the visibility timeout is over."""
    from kombu import Connection

    with Connection(broker) as connection:
        channel: Any = connection.default_channel
        for tag in channel.client.zrange(channel.unacked_index_key, 0, -1):
            channel.qos.restore_by_tag(tag, channel.client)
