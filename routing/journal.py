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


class Journal:
    """Lines of JSON, ``[caller, decision core]`` each, fsynced. Safe between threads; a fork starts its own."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._file: FileIO | None = None
        self._owner = 0
        self._carrier: threading.Thread | None = None

    def append(self, *lines: bytes) -> None:
        """Returns when the lines are on disk. OSError when they cannot be written: then nothing of them is."""
        with self._lock:
            if self._file is None or self._owner != os.getpid():
                self._file, self._owner, self._carrier = self._create(), os.getpid(), None
            _write(self._file, b"".join(line + b"\n" for line in lines))
            if self._carrier is None:
                self._carrier = threading.Thread(target=self._carry, name="journal", daemon=True)
                self._carrier.start()

    def _create(self) -> FileIO:
        directory = self._directory()
        directory.mkdir(parents=True, exist_ok=True)
        # Unbuffered: of a line that a full disk refused, nothing may be left to be written with the next.
        file = (directory / f"{os.getpid()}-{uuid.uuid4().hex}.ndjson").open("ab", buffering=0)
        # Held while this process lives, so that others can tell its file from one that was left behind.
        fcntl.flock(file, fcntl.LOCK_EX)
        return file

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
                    if self._file is None:
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
            if self._file is not None:
                self._file.close()
                self._file = None

    def waiting(self) -> int:
        """How many files wait to be carried."""
        return len(list(self._directory().glob("*.ndjson")))

    def carry_left_behind(self) -> int:
        """Carry every file that no living process writes to; returns the decisions carried. A file is
        deleted after its decisions are committed, so killed in between, it is carried again: no harm."""
        carried = 0
        for path in sorted(self._directory().glob("*.ndjson")):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    carried += _carry_file(path.name, file)
            except (BlockingIOError, FileNotFoundError):
                continue
            path.unlink(missing_ok=True)
        return carried


def _write(file: FileIO, data: bytes) -> None:
    end = os.fstat(file.fileno()).st_size
    try:
        rest = memoryview(data)
        while rest:
            # A disk that is nearly full takes a part first.
            rest = rest[file.write(rest) or 0 :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def _carry_file(name: str, file: BinaryIO) -> int:
    rows = []
    for line in file:
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
