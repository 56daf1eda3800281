"""A journal file that is written to as memory: a line costs a copy, and no call of the operating system."""

import contextlib
import mmap
import os
from pathlib import Path

from routing.journal import BEHIND, WAITING, create_held

_LEAST_BYTES = 256 * 1024


class MappedSegment:
    """Whole lines of JSON, then zeros. What was written survives the death of the process: the pages are the operating
    system's. While it is open, others can tell that its process lives (routing.journal carries it when it does not)."""

    def __init__(self, directory: Path, size: int = _LEAST_BYTES) -> None:
        """OSError when there is no room for so many bytes."""
        self.end = 0
        self._map: mmap.mmap | None = None
        self._path, self._file = create_held(directory, BEHIND)
        try:
            self._grow(max(size, _LEAST_BYTES))
        except OSError:
            self.delete()
            raise

    def _grow(self, size: int) -> None:
        # The blocks are there before they are written to: on a full disk a page without one would kill the process.
        os.posix_fallocate(self._file.fileno(), 0, size)
        self._let_go()
        self._size = size
        self._map = mmap.mmap(self._file.fileno(), size)

    def _let_go(self) -> None:
        # A map keeps the file open, and so the lock that says that its process lives.
        if self._map is not None:
            self._map.close()
            self._map = None

    def write(self, line: bytes) -> None:
        """Returns when the operating system has it. OSError when there is no room: then nothing of it is there."""
        end = self.end + len(line)
        if end > self._size:
            self._grow(max(2 * self._size, end))
        assert self._map is not None  # noqa: S101  # for the type checker: it is mapped until it is let go of
        self._map[self.end : end] = line
        self.end = end

    def sync(self) -> None:
        """Returns when the disk has all of it, or it is closed. OSError when the disk cannot."""
        if not self._file.closed:
            os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Leave it to whoever carries what is left behind."""
        with contextlib.suppress(OSError):  # the zeros may stay: they are passed over
            self._file.truncate(self.end)
            self._path.rename(self._path.with_suffix(WAITING))
        self._let_go()
        self._file.close()

    def delete(self) -> None:
        self._path.unlink(missing_ok=True)
        self._let_go()
        self._file.close()
