"""What must reach the service, and may wait: nothing is lost, nothing is counted twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import wait_until
from tests.worker.api import Api, serving
from tests.worker.scenes import event, settings
from worker.flusher import Flusher
from worker.outbox import FILE, Kind, Outbox, OutboxUnavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(None) as running:
        yield running


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path)
    yield made
    made.close()


def fill(outbox: Outbox, count: int) -> list[str]:
    for number in range(count):
        assert outbox.put(Kind.COMPLETION, event(number), key=event(number)["event_id"])
    return [event(number)["event_id"] for number in range(count)]


def ids(api: Api) -> list[str]:
    return [one["event_id"] for one in api.events]


def test_what_is_put_is_sent_once_in_order_and_forgotten(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    put = fill(outbox, 5)
    flusher = Flusher(settings(tmp_path, api.url), outbox)
    assert flusher.flush() == 5
    assert flusher.flush() == 0
    assert ids(api) == put
    backlog = outbox.backlog()
    assert (backlog.waiting["completion"], backlog.delivered, backlog.refused) == (0, 5, 0)


def test_the_same_key_is_put_once_and_the_first_counts(tmp_path: Path, outbox: Outbox) -> None:
    assert outbox.put(Kind.COMPLETION, event(success=True), key="k")
    assert not outbox.put(Kind.COMPLETION, event(success=False), key="k")
    again = Outbox(tmp_path)
    assert not again.put(Kind.COMPLETION, event(), key="k")
    again.close()
    assert outbox.backlog().waiting["completion"] == 1


def test_the_refused_are_set_aside_counted_and_told_and_the_others_are_delivered(
    api: Api, tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    put = fill(outbox, 4)
    api.refuse = frozenset({put[1]})
    assert Flusher(settings(tmp_path, api.url), outbox).flush() == 4
    assert ids(api) == [put[0], put[2], put[3]]
    backlog = outbox.backlog()
    assert (backlog.delivered, backlog.refused) == (3, 1)
    assert backlog.newest_refusal == "unknown_profile: profile: there is no such one."
    assert "a completion was refused: unknown_profile" in caplog.text


def test_a_batch_that_is_refused_whole_is_set_aside_too(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    api.refuse = frozenset(fill(outbox, 2))
    assert Flusher(settings(tmp_path, api.url), outbox).flush() == 2
    assert (outbox.backlog().refused, sum(outbox.backlog().waiting.values())) == (2, 0)


@pytest.mark.parametrize(
    "fault", [500, 503, 429, 404, 200, 302, (401, "authentication_failed"), (403, "permission_denied")]
)
def test_anything_but_a_verdict_takes_nothing_out(
    api: Api, tmp_path: Path, outbox: Outbox, fault: Any
) -> None:
    put = fill(outbox, 3)
    api.fault = fault
    flusher = Flusher(settings(tmp_path, api.url), outbox)
    assert flusher.flush() == 0
    assert flusher.failure
    assert outbox.backlog().waiting["completion"] == 3
    api.fault = None
    assert flusher.flush() == 3
    assert ids(api) == put


@pytest.mark.parametrize("fault", [413, (400, "invalid")])
def test_a_batch_that_is_too_much_is_halved_until_one_stands_alone(
    api: Api, tmp_path: Path, outbox: Outbox, fault: Any
) -> None:
    put = fill(outbox, 3)
    poison, answer = put[1], api.answer

    def judge(method: str, path: str, body: Any) -> tuple[int, Any]:
        if any(one["event_id"] == poison for one in body):
            status = fault if isinstance(fault, int) else fault[0]
            return status, {"code": "invalid", "detail": "as told", "status": status}
        return answer(method, path, body)

    api.answer = judge  # type: ignore[method-assign]
    assert Flusher(settings(tmp_path, api.url), outbox).flush() == 3
    assert ids(api) == [put[0], put[2]]
    assert outbox.backlog().refused == 1


def test_batches_stay_within_what_the_service_takes(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    outbox.put_all(Kind.COMPLETION, (event(number) for number in range(2100)))
    sizes: list[int] = []
    answer = api.answer

    def judge(method: str, path: str, body: Any) -> tuple[int, Any]:
        sizes.append(len(body))
        return answer(method, path, body)

    api.answer = judge  # type: ignore[method-assign]
    assert Flusher(settings(tmp_path, api.url), outbox).flush() == 2100
    assert sizes == [1000, 1000, 100]
    outbox.put_all(Kind.COMPLETION, ({"padding": "x" * 600_000} for _ in range(3)))
    assert [len(outbox.oldest(Kind.COMPLETION))] == [2]


def test_an_hour_without_the_service_loses_nothing_and_does_not_hammer_it(
    api: Api, tmp_path: Path, outbox: Outbox
) -> None:
    now = [0.0]
    flusher = Flusher(settings(tmp_path, api.url), outbox, clock=lambda: now[0])
    api.fault = 503
    put: list[str] = []
    while now[0] < 3600:
        number = len(put)
        outbox.put(Kind.COMPLETION, event(number))
        put.append(event(number)["event_id"])
        flusher.tick()
        now[0] += 10
    assert api.events == []
    assert 60 <= len(api.requests) <= 120
    api.fault = None
    now[0] += 60
    assert flusher.tick() == len(put) == 360
    assert ids(api) == put


def test_one_kind_that_is_not_taken_does_not_hold_up_the_other(
    api: Api, tmp_path: Path, outbox: Outbox
) -> None:
    outbox.put(Kind.DECISION, {"decision_id": "d"})
    fill(outbox, 1)
    api.fault, api.fault_on = 500, "/selections/batch"
    assert Flusher(settings(tmp_path, api.url), outbox).flush() == 1
    assert outbox.backlog().waiting == {"decision": 1, "completion": 0}


def test_an_answer_that_is_lost_on_the_way_is_asked_for_again_under_the_same_ids(
    api: Api, tmp_path: Path, outbox: Outbox
) -> None:
    put = fill(outbox, 2)
    answer = api.answer

    def take_and_fail(method: str, path: str, body: Any) -> tuple[int, Any]:
        answer(method, path, body)
        return 502, {}

    api.answer = take_and_fail  # type: ignore[method-assign]
    flusher = Flusher(settings(tmp_path, api.url), outbox)
    flusher.flush()
    api.answer = answer  # type: ignore[method-assign]
    flusher.flush()
    assert ids(api) == put + put


def test_two_processes_never_send_at_once(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    fill(outbox, 3)
    other = Outbox(tmp_path)
    first, second = (Flusher(settings(tmp_path, api.url), one) for one in (outbox, other))
    api.fault = "silent"
    sending = threading.Thread(target=first.flush)
    sending.start()
    wait_until(lambda: bool(api.received), "a request", 5)
    assert second.flush() == 0
    assert second.failure == "another process is sending"
    api.stop()
    sending.join(20)
    other.close()


def test_threads_put_at_once(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    def put(first: int) -> None:
        for number in range(first, first + 25):
            outbox.put(Kind.COMPLETION, event(number), key=str(number))

    # Every event comes from two threads.
    threads = [threading.Thread(target=put, args=(25 * (n // 2),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Flusher(settings(tmp_path, api.url), outbox).flush() == 100
    assert sorted(ids(api)) == sorted(event(number)["event_id"] for number in range(100))


_REPORTER = """
import sys
from pathlib import Path
from tests.worker.scenes import event
from worker.outbox import Kind, Outbox
outbox = Outbox(Path(sys.argv[1]))
for number in range(1_000_000):
    outbox.put(Kind.COMPLETION, event(number), key=str(number))
    print(number, flush=True)
"""


def test_what_was_reported_survives_kill_9(api: Api, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _REPORTER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    reported = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    reported += [int(line) for line in process.stdout]
    process.wait()
    process.stdout.close()
    outbox = Outbox(tmp_path)
    Flusher(settings(tmp_path, api.url), outbox).flush()
    outbox.close()
    delivered = ids(api)
    assert delivered[: len(reported)] == [event(number)["event_id"] for number in reported]
    # At most the one that it was killed in comes on top.
    assert len(delivered) - len(reported) in (0, 1)


def test_a_flusher_that_is_killed_while_sending_sends_again(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    put = fill(outbox, 10)
    api.fault = "silent"
    environment = {
        **os.environ,
        "WORKER_API_URL": api.url,
        "WORKER_API_KEY": "key",
        "WORKER_STATE_DIR": str(tmp_path),
        "WORKER_DEFAULT_PROFILE": '{"slug":"a","provider":"b","model":"c","base_url":"http://127.0.0.1:9"}',
    }
    process = subprocess.Popen([sys.executable, "-m", "worker", "flush"], cwd=ROOT, env=environment)
    flusher = Flusher(settings(tmp_path, api.url), outbox)
    wait_until(lambda: bool(api.received), "its request")
    process.kill()
    process.wait()
    api.fault = None
    wait_until(lambda: flusher.flush() == 10, "sending again", 5)
    assert ids(api) == put


def test_the_flusher_runs_by_itself(api: Api, tmp_path: Path, outbox: Outbox) -> None:
    flusher = Flusher(settings(tmp_path, api.url), outbox)
    flusher.start()
    put = fill(outbox, 3)
    wait_until(lambda: len(api.events) == 3, "delivery", 5)
    flusher.close()
    assert ids(api) == put


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(OutboxUnavailable, match="cannot be opened"):
        Outbox(tmp_path)


def test_every_commit_is_synced_to_the_disk(outbox: Outbox, tmp_path: Path) -> None:
    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sqlite3.connect(tmp_path / FILE).execute("PRAGMA journal_mode").fetchone() == ("wal",)
