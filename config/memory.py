"""How little memory a process can do with. Call before threads are started, and before ClickHouse's driver is there."""

import ctypes
import os

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
#: glibc gives threads up to eight arenas a core, and what is freed in one is not used by another. A web process has
#: dozens of threads, which the interpreter lets run one at a time: two are enough, and with more it grows by tens of
#: megabytes, a little with each new snapshot (docs/load.md).
ARENAS = 2
#: From so many bytes on an allocation is given back to the system when it is freed. By itself glibc raises this bound
#: to the largest that was ever freed, up to 32 MB: a snapshot's JSON would leave its hole in the heap.
LARGE = 1_000_000


def few_arenas() -> bool:
    """Bound the arenas of this process, and keep what is large out of them; False where the C library has no such
    settings, and nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, ARENAS) and mallopt(_M_MMAP_THRESHOLD, LARGE))


def small_tables() -> None:
    """clickhouse-driver makes a table of each day from 1900 to 2299 when it is imported, 25 MB in every process, unless
    its environment asks for one that fills with days as they are seen. (The name is the driver's own.)"""
    os.environ.setdefault("CLICKHOUSE_DRIVER_LASY_DATE_LUT", "as seen")


def give_back() -> None:
    """Give memory that is free to the system: glibc keeps what lies below anything that is still used. Milliseconds;
    other threads run meanwhile."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
