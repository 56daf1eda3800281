"""Write-behind: answered when the journal has it, in the database a moment later; a killed process loses nothing."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import orjson
import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from catalog.outage import outage
from routing.journal import Journal, journal
from routing.models import ConversationSelection, Selection
from routing.repeats import Asked, repeats
from routing.selection import select
from routing.storing import behind as module
from routing.storing.behind import Behind, behind
from routing.storing.lanes import Lanes
from routing.storing.mapped import MappedSegment
from tests.routing.scenes import ranked_scope
from tests.routing.storing.test_grouping import together

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _behind(settings: Any) -> Iterator[None]:
    settings.SELECTION_STORE = "write-behind"
    ranked_scope(switch_margin="0.2")
    yield
    behind.end()


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is carried but by hand."""
    monkeypatch.setattr(module, "CARRY_SECONDS", 3600.0)


def ask(conversation: str, **other: Any) -> dict[str, Any]:
    try:
        return select(
            Asked("aurora", "essayist", conversation, **other), "key:test", timezone.now()
        ).to_dict()
    finally:
        connections.close_all()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines(directory: Path) -> list[Any]:
    return [
        orjson.loads(line) for path in directory.iterdir() for line in path.open("rb") if line.strip(b"\0")
    ]


def test_the_journal_has_it_before_the_answer_and_the_database_a_moment_later(
    tmp_path: Path, still: None
) -> None:
    told = ask("c-1")
    [(caller, core)] = lines(tmp_path / "journal")
    assert (caller, core) == ("key:test", {name: told[name] for name in told if name != "candidates"})
    assert not Selection.objects.exists()
    behind.flush()
    row = Selection.objects.get()
    assert (str(row.decision_id), row.source, orjson.loads(row.core)) == (told["decision_id"], "remote", core)
    assert ConversationSelection.objects.get().profile == "cheap"
    assert not lines(tmp_path / "journal")


def test_it_is_carried_without_anybody_asking() -> None:
    told = ask("c-1")
    until(lambda: Selection.objects.filter(decision_id=told["decision_id"]).exists())


def test_of_many_at_once_each_is_stored_once() -> None:
    found: list[Any] = together(30, lambda number: ask(f"c-{number % 10}"))
    until(lambda: Selection.objects.count() == len({told["decision_id"] for told in found}))


def test_a_conversation_is_sticky_before_it_is_carried(still: None) -> None:
    assert ask("c-1")["last_profile"] is None
    assert ask("c-1")["last_profile"] == "cheap"


def test_what_the_database_knew_before_the_process_began_is_known(still: None) -> None:
    ask("c-1")
    behind.end()
    assert ask("c-1")["last_profile"] == "cheap"


def test_what_another_process_decided_is_known_a_moment_later() -> None:
    ask("c-0")
    now = timezone.now()
    ConversationSelection.objects.create(
        tenant="aurora", persona="essayist", conversation_id="c-1", profile="incumbent", reason="ranked",
        decision_id="8c3f2a52-5c0a-4b7a-9c5f-000000000001", decided_at=now,
    )  # fmt: skip
    key = ("aurora", "essayist", "c-1")
    until(lambda: behind.conversations.last(key) == "incumbent")
    assert ask("c-1")["last_profile"] == "incumbent"


def test_a_repeated_request_id_gets_its_answer_before_and_after_it_is_carried(still: None) -> None:
    first = ask("c-1", request_id="r-1")
    assert ask("c-1", request_id="r-1") == first
    behind.flush()
    assert ask("c-1", request_id="r-1") == first
    assert Selection.objects.count() == 1


def test_a_request_id_that_another_process_answered_meanwhile_loses_neither_decision(still: None) -> None:
    mine = ask("c-1", request_id="r-1")
    # The other process's is there first.
    behind.flush()
    repeats.forget()
    again = ask("c-1", request_id="r-1")
    behind.flush()
    assert {str(row.decision_id): row.request_id for row in Selection.objects.all()} == {
        mine["decision_id"]: "r-1",
        again["decision_id"]: None,
    }


def test_with_a_full_disk_the_database_takes_it(still: None) -> None:
    with mock.patch.object(
        MappedSegment, "write", side_effect=OSError(errno.ENOSPC, "No space left on device")
    ):
        told = ask("c-1")
    assert str(Selection.objects.get().decision_id) == told["decision_id"]


def test_with_too_many_waiting_who_asks_waits_for_the_database(
    still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    for number in range(4):
        ask(f"c-{number}")
    assert Selection.objects.count() == 2


def test_while_the_database_is_away_they_stay_on_disk_and_come_back(
    tmp_path: Path, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "_carry", lambda self: None)
    ask("c-1")
    with mock.patch.object(Lanes, "run", side_effect=OperationalError("away")):
        behind.flush()
        assert ask("c-2")["reason"] == "ranked"
        behind.flush()
    assert not Selection.objects.exists()
    outage.end()
    assert journal.carry_left_behind() == 2
    assert Selection.objects.count() == 2
    assert not lines(tmp_path / "journal")


def test_one_that_the_database_refuses_stays_on_disk_and_is_told_of(
    tmp_path: Path, still: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "_carry", lambda self: None)
    ask("c-1")
    with mock.patch.object(Lanes, "run", side_effect=ValueError("cannot be stored")):
        behind.flush()
    assert len(lines(tmp_path / "journal")) == 1
    assert "1 decisions stay in the journal for now: cannot be stored" in caplog.text


def test_lines_are_synced_to_disk_soon_after(still: None) -> None:
    synced = 0
    sync = MappedSegment.sync

    def count(self: Any) -> None:
        nonlocal synced
        sync(self)
        synced += 1

    with mock.patch.object(MappedSegment, "sync", count):
        ask("c-1")
        until(lambda: synced > 0)


def test_nothing_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    writer = """
import sys, time
from django.utils import timezone
from routing.repeats import Asked
from routing.selection import select
from routing.storing import behind
behind.CARRY_SECONDS = 3600
for number in range(200):
    print(select(Asked("aurora", "essayist", f"c-{number}"), "key:test", timezone.now()).to_dict()["decision_id"])
sys.stdout.flush()
time.sleep(60)
"""
    from django.db import connection

    database = connection.settings_dict["NAME"]
    url = os.environ.get("DATABASE_URL") or f"sqlite:///{database}"
    if connection.vendor == "postgresql":
        url = url.rpartition("/")[0] + f"/{database}"
    environment = {
        **os.environ, "DATA_DIR": str(tmp_path), "SELECTION_STORE": "write-behind", "DATABASE_URL": url,
        "LOG_LEVEL": "ERROR",
    }  # fmt: skip
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-v", "0", "-c", writer]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[3], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        answered = {process.stdout.readline().decode().strip() for _ in range(200)}
        process.send_signal(signal.SIGKILL)
    assert not Selection.objects.exists()
    assert journal.carry_left_behind() == 200
    assert {str(row) for row in Selection.objects.values_list("decision_id", flat=True)} == answered


def test_files_on_their_way_are_not_told_as_waiting_and_those_left_behind_are(
    tmp_path: Path, still: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "_carry", lambda self: None)
    ask("c-1")
    assert (len(lines(tmp_path / "journal")), journal.waiting()) == (1, 0)
    with mock.patch.object(Lanes, "run", side_effect=OperationalError("away")):
        behind.flush()
    assert journal.waiting() == 1
    # As a killed process leaves it.
    [path] = (tmp_path / "journal").iterdir()
    path.rename(path.with_suffix(".behind"))
    assert journal.waiting() == 1
    outage.end()
    assert (journal.carry_left_behind(), journal.waiting()) == (1, 0)


def test_an_idle_process_has_no_journal_and_no_threads(tmp_path: Path) -> None:
    one = Behind(lambda: tmp_path / "own", lambda: 0.01)
    one.flush()
    assert not (tmp_path / "own").exists()
    assert not one._threads


def test_a_segment_grows_with_what_is_written(tmp_path: Path) -> None:
    one = MappedSegment(tmp_path)
    line = b"x" * 99_999 + b"\n"
    for _ in range(20):
        one.write(line)
    one.sync()
    one.close()
    [path] = tmp_path.iterdir()
    assert path.read_bytes() == line * 20


def test_without_room_for_a_segment_none_is_left(tmp_path: Path) -> None:
    with (
        mock.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(OSError, match="No space"),
    ):
        MappedSegment(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_without_room_to_grow_what_was_written_stays_whole(tmp_path: Path) -> None:
    one = MappedSegment(tmp_path)
    one.write(b"first\n")
    with (
        mock.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(OSError, match="No space"),
    ):
        one.write(b"x" * 1_000_000)
    one.write(b"second\n")
    one.close()
    [path] = tmp_path.iterdir()
    assert path.read_bytes() == b"first\nsecond\n"


def test_a_new_file_is_never_taken_for_one_that_was_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever carries looks while files are made: each is held before it has a name to be found by."""
    seen: list[int] = []
    lock = fcntl.flock

    def look(file: Any, how: int) -> None:
        seen.append(journal.carry_left_behind())
        lock(file, how)

    ask("c-0")
    behind.flush()
    with mock.patch("routing.journal.fcntl.flock", look):
        one = MappedSegment(tmp_path / "journal")
    one.write(b'["key:test", {}]\n')
    assert len(lines(tmp_path / "journal")) == 1
    assert seen == [0]
    one.delete()
