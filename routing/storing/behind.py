"""Write-behind (SELECTION_STORE=write-behind): a decision is answered when it is in the process's journal, and carried
into the database a moment later.

What is lost, and when: nothing when a process is killed, because the operating system has each line before the answer
goes out, and the next process of the host carries it. When the machine itself stops, what was answered in the last
SELECTION_SYNC_MS milliseconds. Until a decision is carried (CARRY_SECONDS), other processes do not know of it: ADR 31.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from catalog.outage import AWAY, outage
from routing.bundle import current_bundle
from routing.journal import journal, line_of
from routing.models import Selection
from routing.storing.conversations import KEPT, Conversations
from routing.storing.lanes import lanes
from routing.storing.making import Made, Wanted, decide_one
from routing.storing.mapped import MappedSegment
from routing.storing.rows import ORIGIN, Row, row_of_decision

log = logging.getLogger(__name__)

#: How long a decision waits for its way into the database, if the database keeps up.
CARRY_SECONDS = 0.2
#: Decisions of one statement.
_ROWS = 200
#: Decisions that may wait; beyond, who asks waits for the database, as with SELECTION_STORE=commit.
MOST_WAITING = 20_000
#: What others decided is looked for so often, and so far back.
LEARN_SECONDS = 0.5
_OVERLAP_SECONDS = 2.0
_REMOTE = Selection.Source.REMOTE.value


class Behind:
    """This process's. Safe between threads; a fork starts its own."""

    def __init__(self, directory: Callable[[], Path], sync_seconds: Callable[[], float]) -> None:
        self._directory = directory
        self._sync_seconds = sync_seconds
        self.conversations = Conversations()
        self._reset()

    def _reset(self) -> None:
        """As at first; in a forked child, too: what the parent holds is the parent's."""
        self._lock = threading.Lock()
        self._segment: MappedSegment | None = None
        self._size = 0
        self._waiting: list[Row] = []
        self._threads: list[threading.Thread] = []
        self._unsynced = threading.Event()
        self._stop = threading.Event()
        self._since = 0.0
        self._learnt_at = 0.0
        self._being_carried = 0
        self.conversations.forget()

    @property
    def is_full(self) -> bool:
        return len(self._waiting) + self._being_carried >= MOST_WAITING

    def begin(self) -> None:
        """Learn what the last conversations were given, and start the threads; once in each process."""
        if self._threads:
            return
        with self._lock:
            if self._threads:
                return
            self._learn()
            for work in (self._sync, self._carry):
                thread = threading.Thread(target=work, name=f"selections{work.__name__}", daemon=True)
                self._threads.append(thread)
                thread.start()
            atexit.register(self.end)

    def append(self, row: Row, core: bytes) -> None:
        """Returns when the operating system has it. OSError when it has not: then nothing of it is kept."""
        line = line_of(row.caller, core) + b"\n"
        with self._lock:
            if self._segment is None:
                self._segment = MappedSegment(self._directory(), self._size)
            self._segment.write(line)
            self._waiting.append(row)
        if not self._unsynced.is_set():  # setting it takes a lock, and wakes a thread
            self._unsynced.set()

    def flush(self) -> None:
        """Carry what waits now. Raises nothing: what cannot be carried stays on disk for whoever comes next."""
        with self._lock:
            segment, rows = self._segment, self._waiting
            self._segment, self._waiting = None, []
            self._being_carried = len(rows)
        if segment is None:
            return
        # The next one will be about as large.
        self._size = segment.end
        try:
            for start in range(0, len(rows), _ROWS):
                self._put(rows[start : start + _ROWS])
                self._being_carried = max(self._being_carried - _ROWS, 0)
        except Exception as error:  # noqa: BLE001  # nothing is lost, whatever it is
            level = logging.ERROR if isinstance(error, AWAY) else logging.CRITICAL
            log.log(level, "%d decisions stay in the journal for now: %s", len(rows), error)
            # The journal's thread carries it when the database is back.
            segment.close()
            journal.carry_later()
        else:
            segment.delete()
        finally:
            self._being_carried = 0

    def _put(self, rows: list[Row]) -> None:
        with outage.watch():
            now = timezone.now()
            stored = lanes.run(lambda store: store.put(rows, now))
            # Its request_id was answered by another process meanwhile: both answers were given, so both are kept.
            twice = [row._replace(request_id=None) for row in rows if row.decision_id not in stored.new]
            if twice:
                lanes.run(lambda store: store.put(twice, now))

    def _sync(self) -> None:
        while not self._stop.is_set():
            self._unsynced.wait()
            time.sleep(self._sync_seconds())
            self._unsynced.clear()
            with self._lock:
                segment = self._segment
            if segment is not None:
                try:
                    segment.sync()
                except (OSError, ValueError) as error:  # a closed one was carried meanwhile
                    log.error("the journal could not be synced to disk: %s", error)

    def _carry(self) -> None:
        while not self._stop.wait(CARRY_SECONDS):
            try:
                self.flush()
                if time.monotonic() - self._learnt_at >= LEARN_SECONDS:
                    self._learnt_at = time.monotonic()
                    self._learn()
            except AWAY:
                pass
            except Exception:
                log.exception("decisions could not be carried; trying again")

    def _learn(self) -> None:
        """What other processes gave meanwhile; when it begins, what anybody gave last."""
        began, besides = time.time(), ORIGIN if self._since else ""
        try:
            with outage.watch():
                news = lanes.run(lambda store: store.news(self._since, besides, KEPT))
        except AWAY as error:
            log.error("what other processes decided is not known for now: %s", error)
            return
        self.conversations.learn(reversed(news))
        # Read again for a while: a decision may become visible some time after it was made.
        self._since = began - _OVERLAP_SECONDS

    def end(self) -> None:
        """Carry what waits and end the threads."""
        self._stop.set()
        self._unsynced.set()
        for thread in self._threads:
            thread.join(5)
        self.flush()
        self._reset()


behind = Behind(lambda: settings.DATA_DIR / "journal", lambda: settings.SELECTION_SYNC_MS / 1000)
os.register_at_fork(after_in_child=behind._reset)


def make_behind(wanted: Wanted) -> Made | None:
    """The decision, in the journal; None when that is no way now: the disk is full, or the database is far behind.
    Raises SelectionProblem."""
    behind.begin()
    if behind.is_full:
        return None
    bundle, key = current_bundle(), wanted.key
    last, source = behind.conversations.last(key), _REMOTE
    made = decide_one(bundle, wanted, last, source, is_in_database=False)
    try:
        behind.append(row_of_decision(made.decision, made.core, wanted.caller, source), made.core)
    except OSError as error:
        log.error("the journal takes no decision; the database does: %s", error)
        return None
    behind.conversations.note(key, made.decision.profile.slug, wanted.at.timestamp())
    return made
