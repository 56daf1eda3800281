"""The id of what runs now, a request or a task: in its logs, its answers, its audit entries."""

import random
import re
from contextvars import ContextVar

#: What callers may call their requests; anything else gets a name of ours.
_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,99}")

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of the request or task that this runs in; None: of none."""
    return _current.get()


def bind(given: str | None) -> str:
    """From now on this is the id, if it may be one, else a new one; returns it."""
    name = (
        given if given is not None and _VALID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    )  # a name, no secret
    _current.set(name)
    return name


def _new() -> str:
    # A name, no secret: it costs no call of the operating system. A forked child begins with another seed.
    return f"{random.getrandbits(128):032x}"


def unbind() -> None:
    """Nothing is being done any more."""
    _current.set(None)
