"""What a supervisor does in production: worker and beat that end by themselves are started again after a second."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.flows.apart import Apart

Process = subprocess.Popen[bytes]
Told = Callable[[str, Process], None]
#: As `Restart=always` and `RestartSec=1` have it in ops/systemd.
PAUSE_SECONDS = 1.0


@contextmanager
def supervised(apart: Apart, told: Told = lambda role, process: None) -> Iterator[None]:
    """Until the block ends. Who was killed or asked to stop by a test stays down. ``told`` is given who was started.

    Celery's worker gives up now and then when Redis closes connections while it holds a task: kombu tries to give the
    task back over the connection that is gone ("Unrecoverable error"). It is meant to be started again.
    """
    start: dict[str, Callable[[], Process]] = {"worker": apart.start_worker, "beat": apart.start_beat}
    over = threading.Event()
    seen: set[int] = set()

    def watch() -> None:
        while not over.wait(PAUSE_SECONDS):
            for name, process in list(apart.processes.items()):
                role = name.partition("-")[0]
                code = process.poll()
                if role in start and code is not None and code > 0 and process.pid not in seen:
                    seen.add(process.pid)
                    told(role, start[role]())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
