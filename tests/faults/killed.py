"""`python -m tests.faults.killed WHAT N`: run a part of the product in a child that is killed -9, N times over.

WHAT is ``publisher``, ``pipeline`` (drain and roll-up) or ``web`` (ingest, by waitress; its port is the first line
printed). When N children were killed, ``web`` goes on in a last one until this process is ended; the others end.
"""

import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

#: How long children live, in seconds: shortest, longest.
LIVES = {"publisher": (0.005, 0.12), "pipeline": (0.02, 0.3), "web": (0.05, 0.4)}


def main() -> int:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    what, times = sys.argv[1], int(sys.argv[2])
    live = _parts()[what]
    chance = random.Random(7)
    killed = finished = 0
    while killed < times:
        child = _fork(live)
        time.sleep(chance.uniform(*LIVES[what]))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        finished += os.WIFEXITED(status)
    _say(f"killed {killed} times, {finished} ran to their end")
    if what == "web":
        os.waitpid(_fork(live), 0)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fork(live: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        # Whatever the child does, it never returns into the loop that kills.
        with suppress(Exception):
            live()
        os._exit(1)
    return child


def _parts() -> dict[str, Callable[[], None]]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    if sys.argv[1] == "web":
        _say(str(listener.getsockname()[1]))

    def web() -> None:
        from waitress.server import create_server

        from config.wsgi import application

        # The socket is the parent's: who connects while nobody lives waits for the next child.
        create_server(application, sockets=[listener], threads=4).run()

    return {"publisher": _publish, "pipeline": _pipeline, "web": web}


def _publish() -> NoReturn:
    from routing.events import publish
    from telemetry.clickhouse import get_clickhouse

    while True:
        # Small blocks: more places to be killed at.
        if not publish(get_clickhouse(), most=7):
            time.sleep(0.002)


def _pipeline() -> NoReturn:
    from django.utils import timezone

    from telemetry import rollups, spool
    from telemetry.clickhouse import get_clickhouse

    while True:
        # What the tasks do, without their lease: another runner would wait 20 s for a killed one's.
        sent = spool.drain(get_clickhouse(), timezone.now(), 150, max_blocks=3)
        done = rollups.roll_up_dirty(get_clickhouse(), timezone.now, most=40)
        if not sent and not done:
            time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
