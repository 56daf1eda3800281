"""Ours without HTTP, asked as peers in process are: the engine, and a worker's client that decides by the bundle."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.peers.base import Ask, Peer, Start, in_process

ROOT = Path(__file__).parents[1]
PROFILES = 20
#: What is asked until a signal ends the process, in a folder that whoever started it deletes.
_running = ExitStack()


def engine() -> Callable[[int], object]:
    """decide(), of another conversation each time."""
    import django

    django.setup()
    from bench.deciding import bundle_of
    from routing.engine import SelectionRequest, decide

    bundle, now = bundle_of(PROFILES), datetime.now(UTC)
    return lambda n: decide(bundle, SelectionRequest("tenant-0", "persona-0", f"conversation-{n}", now))


def worker() -> Callable[[int], object]:
    """From a worker's call to the profile, while its other thread writes the decisions to the outbox."""
    import django

    django.setup()
    from bench.deciding import bundle_of, deciding_worker

    client = _running.enter_context(deciding_worker(bundle_of(PROFILES), Path.cwd() / "worker"))

    def one(n: int) -> None:
        assert client.select("tenant-0", "persona-0", f"conversation-{n}").source == "local"

    return one


def _started(operation: str) -> Start:
    def start(folder: Path, before: Sequence[str]) -> AbstractContextManager[Ask]:
        environment = {
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATA_DIR": str(folder),
            "LOG_LEVEL": "ERROR",
        }
        return in_process(Path(sys.executable), f"bench.ours:{operation}", folder, before, environment)

    return start


#: Beside the peers that are asked in process, and asked as they are.
CALLED = (
    Peer(
        "our engine",
        f"decide() over a bundle of {PROFILES} scored profiles.",
        lambda: "",
        _started("engine"),
        in_process=True,
    ),
    Peer(
        "our worker, local",
        f"A worker's client that decides by the bundle over {PROFILES} profiles and keeps what it has to report.",
        lambda: "",
        _started("worker"),
        in_process=True,
    ),
)
