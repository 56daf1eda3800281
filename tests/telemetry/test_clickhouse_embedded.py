"""The embedded engine: one process a path, threads of its own, and no life after a fork."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from telemetry.clickhouse import connect
from tests.telemetry.engines import chdb_directory, chdb_url, database_at, fresh_name

ROOT = Path(__file__).resolve().parents[2]


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own; one that hangs fails the test."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )


PING = """
    import sys
    from telemetry.clickhouse import ClickHouseUnavailable, connect
    door = connect(sys.argv[1])
    try:
        door.ensure_database()
        door.ping()
    except ClickHouseUnavailable as error:
        print("unavailable:", error)
    else:
        print("open")
"""


def test_a_second_process_is_told_that_the_path_is_taken() -> None:
    with database_at(chdb_url(fresh_name())):
        second = python(PING, chdb_url("other"))
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith(f"unavailable: chDB cannot open {chdb_directory().name}: another process")


def test_data_survives_the_process_and_the_next_may_open_it(tmp_path: Path) -> None:
    for _ in range(2):
        run = python(PING, f"chdb://{tmp_path}/deep/data")
        assert run.stdout == "open\n", run.stderr


def test_a_second_path_in_one_process_is_refused(tmp_path: Path) -> None:
    run = python(
        """
        import sys
        from telemetry.clickhouse import ClickHouseUnavailable, connect
        first, second = (connect(f"chdb://{sys.argv[1]}/{name}") for name in "ab")
        first.ensure_database()
        first.ping()
        try:
            second.ensure_database()
        except ClickHouseUnavailable as error:
            print(error)
        first.close()
        second.ensure_database()
        second.ping()
        """,
        str(tmp_path),
    )
    assert run.returncode == 0, run.stderr
    assert "this process has another path open" in run.stdout


def test_a_forked_child_is_told_instead_of_hanging_and_ends_by_itself(tmp_path: Path) -> None:
    run = python(
        """
        import os, sys, threading
        from telemetry.clickhouse import ClickHouseUnavailable, connect
        door = connect(f"chdb://{sys.argv[1]}")
        door.ensure_database()
        door.ping()
        # A second thread with a session of its own: its thread does not live on in the child.
        asked, done = threading.Event(), threading.Event()
        other = threading.Thread(target=lambda: (door.ping(), asked.set(), done.wait()))
        other.start()
        asked.wait()
        child = os.fork()
        if child == 0:
            for attempt in (door, connect(f"chdb://{sys.argv[1]}")):
                try:
                    attempt.ping()
                except ClickHouseUnavailable as error:
                    print("child:", error, flush=True)
                attempt.close()
            sys.exit(0)
        status = os.waitpid(child, 0)[1]
        door.ping()
        done.set()
        print("parent: child ended with", os.waitstatus_to_exitcode(status))
        """,
        str(tmp_path),
    )
    assert run.returncode == 0, run.stderr
    first, second, parent = run.stdout.splitlines()
    assert "before this process was forked" in first
    assert "before this process was forked" in second
    assert parent == "parent: child ended with 0"


def test_the_engine_may_be_started_after_the_fork(tmp_path: Path) -> None:
    run = python(
        """
        import os, sys
        from telemetry.clickhouse import connect
        door = connect(f"chdb://{sys.argv[1]}")
        child = os.fork()
        if child == 0:
            door.ensure_database()
            door.ping()
            sys.exit(0)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        str(tmp_path),
    )
    assert run.returncode == 0, run.stderr


def test_sessions_of_ended_threads_are_given_up() -> None:
    with database_at(chdb_url(fresh_name())) as door:
        door.execute("CREATE TABLE t (n UInt32) ENGINE = MergeTree ORDER BY n")
        for n in range(50):
            thread = threading.Thread(target=door.insert, args=("t", ["n"], [(n,)]))
            thread.start()
            thread.join(10)
        assert door.query("SELECT count() AS n FROM t") == [{"n": 50}]


def test_without_chdb_installed_the_error_says_what_to_install(tmp_path: Path) -> None:
    run = python("import sys; sys.modules['chdb'] = None" + textwrap.dedent(PING), f"chdb://{tmp_path}")
    assert "requirements-embedded.txt" in run.stdout


def test_importing_the_door_does_not_import_the_engine() -> None:
    run = python("import sys, telemetry.clickhouse; print('chdb' in sys.modules, 'django' in sys.modules)")
    assert run.stdout == "False False\n"


@pytest.mark.parametrize("path", ["x", "/x?mode=ro"])
def test_a_path_is_absolute_and_carries_no_engine_options(path: str) -> None:
    with pytest.raises(ValueError, match="ClickHouse URL"):
        connect(f"chdb://{path}")


def test_the_directory_is_created(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    assert python(PING, f"chdb://{target}").stdout == "open\n"
    assert os.listdir(target)
