"""How little memory a process can do with. Call before threads are started, and before ClickHouse's driver is there."""

import ctypes
import os

_M_ARENA_MAX = -8
#: glibc gives threads up to eight arenas a core, and what is freed in one is not used by another. A web process has
#: dozens of threads, which the interpreter lets run one at a time: two are enough, and with more it grows by tens of
#: megabytes, a little with each new snapshot (docs/load.md).
ARENAS = 2


def few_arenas() -> bool:
    """Bound the arenas of this process; False where the C library has no such setting, and nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, ARENAS))


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
