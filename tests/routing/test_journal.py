"""Decisions made while the database is away: on disk before the answer, in the database afterwards."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.db import OperationalError
from django.test import Client

from catalog.outage import outage
from routing.journal import Journal, journal
from routing.models import Selection
from routing.storing.lanes import Lanes
from tests import factories
from tests.routing.scenes import ASKED, ranked_scope

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parents[2]


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database refuses what a selection asks, and the journal's thread stays still."""

    def refuse(*_: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr(Lanes, "run", refuse)
    monkeypatch.setattr(Journal, "_carry", lambda self: None)


def ask(client: Client, key: dict[str, str]) -> Any:
    return client.post("/api/v1/selections", ASKED, content_type="application/json", headers=key)


def lines(directory: Path) -> list[Any]:
    return [orjson.loads(line) for path in directory.glob("*.ndjson") for line in path.open("rb")]


def test_an_answer_given_without_the_database_is_on_disk_first_and_recorded_later(
    client: Client, away: None, tmp_path: Path
) -> None:
    ranked_scope()
    key = factories.key("select")
    told = ask(client, key)
    assert (told.status_code, told.json()["reason"]) == (200, "ranked")
    assert not Selection.objects.exists()
    [(_, core)] = lines(tmp_path / "journal")
    assert core["decision_id"] == told.json()["decision_id"]
    journal.close()
    assert journal.carry_left_behind() == 1
    row = Selection.objects.get()
    assert (str(row.decision_id), row.source) == (core["decision_id"], "journal")
    assert not lines(tmp_path / "journal")


def test_with_the_disk_full_too_it_is_a_clear_503_and_nothing_of_it_stays(
    client: Client, away: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_scope()
    key = factories.key("select")
    assert ask(client, key).status_code == 200
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _full)
        refused = ask(client, key)
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert len(lines(tmp_path / "journal")) == 1
    assert ask(client, key).status_code == 200
    assert len(lines(tmp_path / "journal")) == 2


def _full(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_fits_only_in_part_is_taken_back(away: None, tmp_path: Path) -> None:
    one = Journal(lambda: tmp_path)
    one.append(b'["first"]')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            one.append(b'["a line too long for what is left"]')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    one.append(b'["second"]')
    one.close()
    assert lines(tmp_path) == [["first"], ["second"]]


def test_while_the_database_is_known_to_be_away_requests_do_not_ask_it(
    client: Client, away: None, django_assert_num_queries: Any
) -> None:
    ranked_scope()
    key = factories.key("select")
    ask(client, key)
    with django_assert_num_queries(0):
        assert ask(client, key).status_code == 200


def test_a_request_id_repeated_while_the_database_is_away_gets_the_same_answer(
    client: Client, away: None, tmp_path: Path
) -> None:
    ranked_scope()
    key = factories.key("select")

    def again(**body: Any) -> Any:
        asked = {**ASKED, "request_id": "r-1", **body}
        return client.post("/api/v1/selections", asked, content_type="application/json", headers=key)

    first = again()
    assert (first.status_code, again().content) == (200, first.content)
    assert len(lines(tmp_path / "journal")) == 1
    other = again(task="code")
    assert (other.status_code, other.json()["code"]) == (409, "request_id_reused")
    outage.end()
    assert again().content == first.content


def test_a_verified_key_goes_on_without_the_database_and_an_unknown_one_is_503(
    client: Client, away: None, settings: Any
) -> None:
    settings.SERVICE_KEY_CACHE_SECONDS = 0
    ranked_scope()
    key = factories.key("select")
    ask(client, key)
    outage.begin()
    assert ask(client, key).status_code == 200
    unknown = ask(client, {"Authorization": "Api-Key nobody.knows"})
    assert (unknown.status_code, unknown.json()["code"]) == (503, "database_unavailable")


def test_without_grace_no_key_goes_on_without_the_database(client: Client, away: None, settings: Any) -> None:
    settings.SERVICE_KEY_CACHE_SECONDS = settings.SERVICE_KEY_GRACE_SECONDS = 0
    ranked_scope()
    key = factories.key("select")
    ask(client, key)
    outage.begin()
    assert ask(client, key).status_code == 503


def test_carried_twice_a_decision_is_recorded_once(client: Client, away: None, tmp_path: Path) -> None:
    ranked_scope()
    ask(client, factories.key("select"))
    journal.close()
    [path] = (tmp_path / "journal").glob("*.ndjson")
    kept = path.read_bytes()
    journal.carry_left_behind()
    path.write_bytes(kept + b'["key:x", {"torn')
    assert journal.carry_left_behind() == 1
    assert Selection.objects.count() == 1


def test_a_living_processs_file_is_left_to_it_and_a_dead_ones_is_carried(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    writer = f"""
import pathlib, time
from routing.journal import Journal
Journal._carry = lambda self: None
kept = Journal(lambda: pathlib.Path({str(directory)!r}))
kept.append(b"torn")
print("written", flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "DATA_DIR": str(tmp_path)}
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-v", "0", "-c", writer]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        journal.carry_left_behind()
        assert journal.waiting() == 1
        process.send_signal(signal.SIGKILL)
    journal.carry_left_behind()
    assert journal.waiting() == 0


@pytest.mark.django_db(transaction=True)
def test_a_thread_carries_the_journal_when_the_database_is_back_and_then_ends(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked_scope()
    key = factories.key("select")
    ask(client, key)
    outage.begin()
    told = ask(client, key).json()
    assert not Selection.objects.filter(decision_id=told["decision_id"]).exists()
    deadline = time.monotonic() + 20
    while not Selection.objects.filter(decision_id=told["decision_id"]).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not outage.is_on or journal.waiting() == 0
