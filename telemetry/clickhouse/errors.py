"""What can go wrong behind the door, in the three kinds that callers act on differently."""


class ClickHouseError(Exception):
    """Anything that went wrong behind the door."""


class ClickHouseUnavailable(ClickHouseError):
    """Not reachable or not able right now; the same call may succeed later."""


class ClickHouseTimeout(ClickHouseUnavailable):
    """No answer in time. Whether a statement took effect is not known."""


class ClickHouseQueryError(ClickHouseError):
    """The statement or its data was refused; the same call will be refused again.

    ``code`` is the engine's error code, or None when the data could not even be sent.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message if code is None else f"{message} (code {code})")
        self.code = code


UNKNOWN_TABLE = 60
UNKNOWN_DATABASE = 81

_TIMEOUT_CODES = frozenset({159, 209})  # TIMEOUT_EXCEEDED, SOCKET_TIMEOUT

# Refusals that say more about the moment or the set-up than about the statement: a spool that drained
# into one of these must keep its rows and try again, not put them aside as bad.
_UNAVAILABLE_CODES = frozenset(
    {
        *(95, 96, 198, 210, 279, 297),  # sockets, DNS, no connection to any replica
        *(192, 193, 194, 195, 291, 497, 516),  # user, password or network refused
        *(202, 241, 243, 252),  # too many queries, out of memory, out of disk, too many parts
        *(164, 225, 242, 244, 285, 286, 319, 999),  # read-only, ZooKeeper or quorum missing
        *(236, 394),  # the server is shutting down
    }
)


def refusal(message: str, code: int | None) -> ClickHouseError:
    """The door's error for an engine's refusal with this error code."""
    # Old engines append a stack trace, new ones the rows they could not parse.
    summary = message.partition("Stack trace:")[0].strip().removeprefix("DB::Exception: ")
    summary = " ".join(summary.split())[:500] or "no message"
    if code in _TIMEOUT_CODES:
        return ClickHouseTimeout(summary)
    if code in _UNAVAILABLE_CODES:
        return ClickHouseUnavailable(f"{summary} (code {code})")
    return ClickHouseQueryError(summary, code)
