"""What must reach the service and may wait: completion events and local decisions, in SQLite in STATE_DIR.

``put`` returns once it is on the disk. Threads and processes may share a folder. worker/flusher.py sends.
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from routing.engine import Decision

log = logging.getLogger(__name__)

FILE = "outbox.sqlite3"
#: The service refuses events older than two days, so a key that is older cannot be counted twice.
_KEYS_KEPT = timedelta(days=3)
_REFUSED_KEPT = 10_000
#: The service takes at most 1,000 items and 2 MB; brackets and commas come on top.
_MOST_ITEMS = 1000
_MOST_BYTES = 1_500_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, put_at REAL NOT NULL, payload BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS pending_in_order ON pending (kind, id);
CREATE TABLE IF NOT EXISTS refused (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, refused_at REAL NOT NULL,
    code TEXT NOT NULL, detail TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, put_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class OutboxUnavailable(Exception):
    """The folder or its file cannot be written; what was to be put is not there."""


class Kind(StrEnum):
    """What waits; each kind has an endpoint of its own."""

    DECISION = "decision"
    COMPLETION = "completion"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that waits; ``payload`` is JSON."""

    id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the service will never take, and why."""

    item: Item
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """For people: what waits by kind, since when (Unix seconds), what was delivered and refused so far."""

    waiting: dict[str, int]
    oldest_at: float | None
    delivered: int
    refused: int
    newest_refusal: str | None


class Outbox:
    """Thread-safe; of one process (make another after a fork). Raises OutboxUnavailable."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(
                folder / FILE, timeout=5, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            # Every commit is on the disk before it returns: it outlives the machine, not only the process.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise OutboxUnavailable(f"{folder / FILE} cannot be opened: {error}") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def put(self, kind: Kind, payload: dict[str, Any], key: str | None = None) -> bool:
        """Durable on return. False: the same ``key`` was put before, and the first counts."""
        row = (kind.value, self._clock(), orjson.dumps(payload))
        with self._transaction() as db:
            if key is not None:
                sql = "INSERT OR IGNORE INTO keys (key, put_at) VALUES (?, ?)"
                if db.execute(sql, (key, row[1])).rowcount == 0:
                    return False
            db.execute("INSERT INTO pending (kind, put_at, payload) VALUES (?, ?, ?)", row)
        return True

    def put_all(self, kind: Kind, payloads: Iterable[dict[str, Any]]) -> None:
        """All or none, durable on return."""
        now = self._clock()
        rows = [(kind.value, now, orjson.dumps(payload)) for payload in payloads]
        with self._transaction() as db:
            db.executemany("INSERT INTO pending (kind, put_at, payload) VALUES (?, ?, ?)", rows)

    def oldest(self, kind: Kind, most: int = _MOST_ITEMS) -> Sequence[Item]:
        """What to send next, in order: as much as one request may hold."""
        sql = "SELECT id, payload FROM pending WHERE kind = ? ORDER BY id LIMIT ?"
        items: list[Item] = []
        size = 0
        with self._locked() as db:
            for number, payload in db.execute(sql, (kind.value, most)):
                size += len(payload) + 1
                if items and size > _MOST_BYTES:
                    break
                items.append(Item(number, payload))
        return items

    def settle(self, kind: Kind, sent: Sequence[Item], refused: Sequence[Refusal]) -> None:
        """The service has judged these: forget them, but keep what it refused (the newest 10,000)."""
        now = self._clock()
        with self._transaction() as db:
            db.executemany("DELETE FROM pending WHERE id = ?", [(item.id,) for item in sent])
            db.executemany(
                "INSERT INTO refused (kind, refused_at, code, detail, payload) VALUES (?, ?, ?, ?, ?)",
                [(kind.value, now, one.code, one.detail, one.item.payload) for one in refused],
            )
            db.execute("DELETE FROM refused WHERE id <= (SELECT max(id) FROM refused) - ?", (_REFUSED_KEPT,))
            for name, value in (("delivered", len(sent) - len(refused)), ("refused", len(refused))):
                db.execute(
                    "INSERT INTO counts VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                    (name, value),
                )
            db.execute("DELETE FROM keys WHERE put_at < ?", (now - _KEYS_KEPT.total_seconds(),))

    def backlog(self) -> Backlog:
        with self._locked() as db:
            waiting = dict(db.execute("SELECT kind, count(*) FROM pending GROUP BY kind").fetchall())
            [oldest] = db.execute("SELECT min(put_at) FROM pending").fetchone()
            counts = dict(db.execute("SELECT name, value FROM counts").fetchall())
            newest = db.execute("SELECT code, detail FROM refused ORDER BY id DESC LIMIT 1").fetchone()
        return Backlog(
            waiting={kind.value: waiting.get(kind.value, 0) for kind in Kind},
            oldest_at=oldest,
            delivered=counts.get("delivered", 0),
            refused=counts.get("refused", 0),
            newest_refusal=": ".join(newest) if newest else None,
        )

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise OutboxUnavailable(f"{self.folder / FILE}: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._locked() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT may have ended it already.
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


class DecisionWriter(threading.Thread):
    """Takes decisions made here from memory to the outbox, off the callers' path.

    A process that is killed loses those of the last ``SECONDS``: the conversation is not harmed, the service
    does not learn of them.
    """

    SECONDS = 0.1

    def __init__(self, decided: deque[Decision], outbox: Outbox) -> None:
        super().__init__(name="decision-writer", daemon=True)
        self._decided = decided
        self._outbox = outbox
        self._stopping = threading.Event()
        self._failed = False

    def run(self) -> None:
        while not self._stopping.wait(self.SECONDS):
            self._write()

    def close(self) -> None:
        """What waits is written first."""
        self._stopping.set()
        if self.is_alive():
            self.join(5)
        self._write()

    def _write(self) -> None:
        while taken := self._take():
            try:
                self._outbox.put_all(Kind.DECISION, (decision.core() for decision in taken))
                self._failed = False
            except OutboxUnavailable as error:
                self._decided.extendleft(reversed(taken))
                if not self._failed:
                    self._failed = True
                    log.error("local decisions wait in memory: %s", error)
                return

    def _take(self) -> list[Decision]:
        taken: list[Decision] = []
        while self._decided and len(taken) < _MOST_ITEMS:
            taken.append(self._decided.popleft())
        return taken
