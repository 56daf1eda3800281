"""What each form of the load test does, and the bounds that none may cross. Pure."""

from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import urlsplit

#: No run may ask for more than this, whatever its arguments say.
MOST_RPS = 1_000
MOST_SECONDS = 2 * 3600
MOST_CLIENTS = 2_000
MOST_CONVERSATIONS = 20_000


class NotLoopbackError(ValueError):
    """Load is for this machine only."""


@dataclass(frozen=True, slots=True)
class Steady:
    """``rps`` selections per second for ``seconds``, each with its completion. ``judge_memory``: growth is wrong."""

    rps: int
    seconds: int
    judge_memory: bool = False


@dataclass(frozen=True, slots=True)
class Cold:
    """``clients`` that start at once and know no policy."""

    clients: int


@dataclass(frozen=True, slots=True)
class Compare:
    """``conversations`` with the flag off, then as many with it on; calls take 1/``speed`` of the recorded time."""

    conversations: int
    speed: float


Part = Steady | Cold | Compare

#: The parts of each form, in order, in one run of the product; ``all`` is every form but ``short`` one after the other.
FORMS: dict[str, tuple[Part, ...]] = {
    "short": (Compare(100, 20), Steady(50, 40), Cold(500)),
    "rate": (Steady(200, 600),),
    "soak": (Steady(40, 1800, judge_memory=True),),
    "cold": (Cold(500),),
    "compare": (Compare(900, 20),),
}
LONG = tuple(name for name in FORMS if name != "short")


def parts(form: str, rps: int | None = None, seconds: int | None = None) -> tuple[Part, ...]:
    """The form's parts, steady ones at another rate or for another time. KeyError: no such form."""
    found: list[Part] = []
    for part in FORMS[form]:
        if isinstance(part, Steady):
            found.append(
                replace(
                    part,
                    rps=part.rps if rps is None else rps,
                    seconds=part.seconds if seconds is None else seconds,
                )
            )
        else:
            found.append(part)
    return tuple(found)


def check(part: Part) -> None:
    """ValueError with a sentence when a part asks for more than the bounds allow."""
    asked: dict[str, tuple[float, float]]
    match part:
        case Steady(rps=rps, seconds=seconds):
            asked = {"rps": (rps, MOST_RPS), "seconds": (seconds, MOST_SECONDS)}
        case Cold(clients=clients):
            asked = {"clients": (clients, MOST_CLIENTS)}
        case Compare(conversations=conversations):
            asked = {"conversations": (conversations, MOST_CONVERSATIONS)}
    for name, (value, most) in asked.items():
        if not 1 <= value <= most:
            raise ValueError(f"{name}: {value:g} is not from 1 to {most:g}")


def loopback(url: str | None) -> str:
    """The URL, when its host is a loopback address. NotLoopbackError otherwise: names are not looked up, since what
    they mean is for others to say."""
    parsed = urlsplit(url or "")
    try:
        is_loopback = ip_address(parsed.hostname or "").is_loopback
    except ValueError:
        is_loopback = False
    if parsed.scheme != "http" or not is_loopback:
        raise NotLoopbackError(f"{url!r} is refused: load goes to http:// at a loopback address only")
    return str(url)
