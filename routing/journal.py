"""Where decisions go while the Django database is away: a file of this process, on disk before the answer.

A thread carries them into the database when it is back, and then ends. A file that a killed process left
behind is carried by the next process of the same host that starts a journal or the ``publish`` task.
"""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import orjson
from django.conf import settings
from django.db import connection
from django.utils import timezone

from catalog.outage import AWAY, outage
from routing.models import Selection
from routing.records import record, row_of

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.5
_ROWS_PER_COMMIT = 500
#: What files end in that wait for the database, and those of processes that write behind (routing.storing.mapped).
WAITING, BEHIND = ".ndjson", ".behind"


def create_held(directory: Path, suffix: str) -> tuple[Path, FileIO]:
    """A new file that this process holds while it lives, so that others can tell it from one that was left behind. It
    has its name only when it is held: found before, it would be carried, and deleted under its writer."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{os.getpid()}-{uuid.uuid4().hex}{suffix}"
    new = path.with_suffix(".new")
    file = new.open("a+b", buffering=0)
    fcntl.flock(file, fcntl.LOCK_EX)
    new.rename(path)
    return path, file


def line_of(caller: str, core: bytes) -> bytes:
    """A decision's line, without its end. ``core`` is the canonical JSON of its core."""
    return b"[" + orjson.dumps(caller) + b"," + core + b"]"


class Segment:
    """One file of whole lines. While it is open, others can tell that its process lives."""

    def __init__(self, directory: Path) -> None:
        self._end = 0
        # Unbuffered: of a line that a full disk refused, nothing may be left to be written with the next.
        self._path, self._file = create_held(directory, WAITING)

    def write(self, data: bytes, *, sync: bool = False) -> None:
        """Returns when the operating system has it, or the disk (``sync``). OSError when it has not: then nothing of it
        is there."""
        try:
            rest = data[self._file.write(data) or 0 :]
            while rest:  # a disk that is nearly full takes a part first
                rest = rest[self._file.write(rest) or 0 :]
            if sync:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(data)

    def sync(self) -> None:
        """Returns when the disk has all of it, or it is closed. OSError when the disk cannot."""
        if not self._file.closed:
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


class Journal:
    """Lines of JSON, ``[caller, decision core]`` each, fsynced. Safe between threads; a fork starts its own."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._owner = 0
        self._carrier: threading.Thread | None = None

    def append(self, *lines: bytes) -> None:
        """Returns when the lines are on disk. OSError when they cannot be written: then nothing of them is."""
        with self._lock:
            if self._segment is None or self._owner != os.getpid():
                self._segment, self._owner, self._carrier = Segment(self._directory()), os.getpid(), None
            self._segment.write(b"".join(line + b"\n" for line in lines), sync=True)
            self._start_carrier()

    def carry_later(self) -> None:
        """A file of this process was let go of: carry it as soon as the database is there."""
        with self._lock:
            if self._owner != os.getpid():
                self._segment, self._owner, self._carrier = None, os.getpid(), None
            self._start_carrier()

    def _start_carrier(self) -> None:
        if self._carrier is None:
            self._carrier = threading.Thread(target=self._carry, name="journal", daemon=True)
            self._carrier.start()

    def _carry(self) -> None:
        while True:
            time.sleep(_RETRY_SECONDS)
            try:
                connection.ensure_connection()
                self.close()
                self.carry_left_behind()
                outage.end()
                log.warning("the database is back; journalled decisions were carried into it")
                with self._lock:
                    if self._segment is None:
                        self._carrier = None
                        return
            except AWAY:
                pass
            except Exception:
                log.exception("journalled decisions could not be carried into the database; trying again")
            finally:
                connection.close()

    def close(self) -> None:
        """Let go of this process's file; the next line begins another."""
        with self._lock:
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def waiting(self) -> int:
        """How many files wait to be carried. Those of living processes that write behind are on their way."""
        directory = self._directory()
        left = [path for path in directory.glob(f"*{BEHIND}") if not _is_held(path)]
        return len(list(directory.glob(f"*{WAITING}"))) + len(left)

    def carry_left_behind(self) -> int:
        """Carry every file that no living process writes to; returns the decisions carried. A file is
        deleted after its decisions are committed, so killed in between, it is carried again: no harm."""
        carried = 0
        directory = self._directory()
        for path in sorted([*directory.glob(f"*{WAITING}"), *directory.glob(f"*{BEHIND}")]):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    carried += _carry_file(path.name, file)
            except (BlockingIOError, FileNotFoundError):
                continue
            path.unlink(missing_ok=True)
        return carried


def _is_held(path: Path) -> bool:
    """Whether a living process has it, or it is gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return True
    return False


def _carry_file(name: str, file: BinaryIO) -> int:
    rows = []
    for line in file:
        if not line.strip(b"\0"):
            continue  # room that was not used (routing.storing.mapped)
        try:
            caller, core = orjson.loads(line)
        except ValueError:
            # Only a line that was being written when its process was killed; it was never answered.
            log.warning("journal %s: a torn line was passed over", name)
            continue
        rows.append(row_of(core, caller, Selection.Source.JOURNAL, timezone.now()))
    for start in range(0, len(rows), _ROWS_PER_COMMIT):
        record(rows[start : start + _ROWS_PER_COMMIT])
    return len(rows)


journal = Journal(lambda: settings.DATA_DIR / "journal")
