"""`make run`'s one process, as its user meets it: start, ask, stop, start again."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services import free_ports, wait_until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@contextmanager
def embedded(data_dir: Path, port: int, *options: str, **environment: str) -> Iterator[tuple[Any, Path]]:
    log = data_dir / f"log-{time.monotonic_ns()}"
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "config.embedded", "--port", str(port), *options],
            cwd=ROOT,
            env={**kept, "DATA_DIR": str(data_dir), **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, log
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def ready(process: Any, log: Path) -> str:
    """Wait until it says that it is ready; its whole output until then."""
    wait_until(lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, "ready", timeout=90)
    text = log.read_text()
    assert process.poll() is None, text
    return text


def run_printed_curl(text: str) -> dict[str, Any]:
    """The command exactly as it was printed."""
    match = re.search(r"curl .*?}'", text, re.DOTALL)
    assert match, text
    command = shlex.split(match.group().replace("\\\n", " "))
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    decision: dict[str, Any] = json.loads(answer.stdout)
    return decision


def snapshot_of(decision: dict[str, Any]) -> int:
    """The id of the score snapshot it was decided by, which its bundle's version ends with."""
    return int(decision["bundle_version"].rpartition(".")[2])


def test_it_starts_answers_the_printed_curl_moves_ends_cleanly_and_starts_again_within_15_seconds(
    tmp_path: Path,
) -> None:
    [port] = free_ports(1)
    with embedded(tmp_path, port, "--demo") as (process, log):
        began = time.monotonic()
        text = ready(process, log)
        first_start = time.monotonic() - began
        decision = run_printed_curl(text)
        assert decision["reason"] == "ranked"
        assert decision["profile"]["slug"] == decision["candidates"][0]["profile"]

        # Not by ``as_of``: a scope may see no event for minutes.
        first = snapshot_of(decision)
        wait_until(lambda: snapshot_of(run_printed_curl(text)) > first, "a newer snapshot", timeout=100)

        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert "Traceback" not in log.read_text()
        # Tasks that come due are done: none waits until it expires.
        assert "Discarding" not in log.read_text()
        assert log.read_text().rstrip().endswith("stopped")

    [port] = free_ports(1)
    with embedded(tmp_path, port, "--demo") as (process, log):
        began = time.monotonic()
        assert run_printed_curl(ready(process, log))["reason"] == "ranked"
        # An ordinary second start takes a third of the 15 s. On a busy machine the first one says how busy.
        assert time.monotonic() - began < max(15, first_start / 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_a_second_one_on_the_same_folder_or_a_wrong_port_is_told_in_one_line(tmp_path: Path) -> None:
    first, second = free_ports(2)
    with embedded(tmp_path, first) as (process, log):
        assert "createsuperuser" in ready(process, log)
        with embedded(tmp_path, second) as (late, told):
            assert late.wait(timeout=60) != 0
            assert "another process uses" in told.read_text()
            assert "Traceback" not in told.read_text()
    with embedded(tmp_path, 99_999) as (wrong, told):
        assert wrong.wait(timeout=60) != 0
        assert "'99999' is no port" in told.read_text()


def test_a_bad_setting_stops_the_start_with_its_name(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with embedded(tmp_path, port, CLICKHOUSE_CONNECT_TIMEOUT="soon") as (process, log):
        assert process.wait(timeout=60) != 0
        assert "CLICKHOUSE_CONNECT_TIMEOUT" in log.read_text()


def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with embedded(tmp_path, taken.getsockname()[1]) as (process, log):
            assert process.wait(timeout=60) != 0
            assert "cannot listen" in log.read_text()
