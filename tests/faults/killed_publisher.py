"""`python -m tests.faults.killed_publisher N`: publish decisions in a child that is killed -9, N times over."""

import os
import random
import signal
import sys
import time


def main() -> int:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.db import connections

    chance = random.Random(7)
    killed = finished = 0
    while killed < int(sys.argv[1]):
        connections.close_all()
        child = os.fork()
        if child == 0:
            _publish()
        time.sleep(chance.uniform(0.005, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
        finished += os.WIFEXITED(status)
    sys.stdout.write(f"killed {killed} times, {finished} ran to their end\n")
    return 0


def _publish() -> None:
    from routing.events import publish
    from telemetry.clickhouse import get_clickhouse

    while True:
        # Small blocks: more places to be killed at.
        if not publish(get_clickhouse(), most=7):
            time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
