"""What locust noted is read back; what the product logged tells how often it built its policy."""

import logging
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from load.figures import Asked
from load.running import ROOT, LocustError, read, run
from load.scenarios import builds
from routing.bundle import build


def test_a_record_is_read_back_line_by_line(tmp_path: Path) -> None:
    record = tmp_path / "x.jsonl"
    lines = [
        {"asked": "select", "at": 1.0, "ms": 5.0, "error": None},
        {"asked": "select", "at": 2.0, "ms": 6.0, "error": "status 503"},
        {"decision": "d-1", "reason": "ranked"},
        {"event": "e-1"},
        {"reported": 3},
    ]
    record.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    found = read(record)
    assert found.asked[0] == Asked("select", 1.0, 5.0)
    assert dict(found.errors) == {"select: status 503": 1}
    assert (found.decisions, found.events) == (["d-1"], ["e-1"])
    assert dict(found.reasons) == {"ranked": 1}
    assert found.more == {"reported": 3}


@pytest.mark.slow
def test_a_locustfile_refuses_another_host_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(ROOT / "load/users/cold.py"),
            "--headless",
            "-H",
            "http://10.0.0.7",
        ],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin",
            "PYTHONPATH": str(ROOT),
            "LOAD_KEY": "k",
            "LOAD_ORDER": '{"clients": 1}',
            "LOAD_RECORD": str(tmp_path / "record"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "loopback" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_locust_that_cannot_run_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(LocustError, match=r"(?s)locust ended with.*clients"):
        run("cold", "http://127.0.0.1:9", "k", {}, tmp_path, users=1, seconds=1)


@pytest.mark.django_db
def test_each_building_of_a_policy_is_a_line_of_the_log_that_the_load_test_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="routing.bundle")
    first = build(None)
    build(first)
    assert builds(caplog.text) == {first.bundle.version: 2}
    assert builds("nothing of the kind\n") == {}
