"""systemctl and journalctl, played: runbooks name the units of ops/systemd, and a test's processes answer to them."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: As the names say; statuses and words are systemd's.
_PLAYED = """#!/bin/sh
told=$(curl -sS --max-time 60 --data-binary "$(basename "$0") $*" http://127.0.0.1:{port}/) || exit 1
printf '%s\\n' "${{told#*
}}"
exit "${{told%%
*}}"
"""


@dataclass(frozen=True)
class Unit:
    """A service: how it is started (to be ready on return) and stopped, whether it runs, and its log."""

    start: Callable[[], object]
    stop: Callable[[], object]
    runs: Callable[[], bool]
    log: Callable[[], str]


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process and its children to end, as systemd does; insist after 10 s, and with children that stay."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answer(units: Mapping[str, Unit], words: list[str]) -> tuple[int, str]:
    """Exit status and output of ``systemctl VERB UNIT...`` or ``journalctl -u UNIT ...``."""
    program, *rest = words
    if program == "journalctl":
        unit = units[rest[rest.index("-u") + 1]]
        return 0, "\n".join(unit.log().splitlines()[-200:])
    verb, *names = [word for word in rest if not word.startswith("-")]
    status, told = 0, []
    for name in names:
        unit = units[name.removesuffix(".service")]
        if verb in ("stop", "restart"):
            unit.stop()
        if verb in ("start", "restart") and not unit.runs():
            unit.start()
        if verb == "is-active":
            told.append("active" if unit.runs() else "inactive")
            status = status if unit.runs() else 3
        assert verb in ("start", "stop", "restart", "is-active"), f"systemctl {verb} is not played"
    return status, "\n".join(told)


@contextmanager
def played(units: Mapping[str, Unit], folder: Path) -> Iterator[None]:
    """Put ``systemctl`` and ``journalctl`` into the folder; it should come first in PATH."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            words = self.rfile.read(int(self.headers["Content-Length"])).decode().split()
            try:
                status, told = answer(units, words)
            except (KeyError, ValueError, AssertionError) as error:
                status, told = 5, f"{words}: {type(error).__name__} {error}"
            body = f"{status}\n{told}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("systemctl", "journalctl"):
        (folder / name).write_text(_PLAYED.format(port=server.server_port))
        (folder / name).chmod(0o755)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
