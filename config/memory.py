"""How glibc hands out memory to threads. Call before threads are started."""

import ctypes

_M_ARENA_MAX = -8
#: glibc gives threads up to eight arenas a core, and what is freed in one is not used by another. A web process has
#: dozens of threads, which the interpreter lets run one at a time: two are enough, and with more it grows by tens of
#: megabytes, a little with each new snapshot (docs/load.md).
ARENAS = 2


def few_arenas() -> bool:
    """Bound the arenas of this process; False where the C library has no such setting, and nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, ARENAS))
