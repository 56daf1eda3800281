"""`python manage.py ...` without its second of start-up: a process that has loaded Django forks for each command.

Started as ``python -m tests.runbooks.manager PORT FOLDER``. FOLDER gets a ``python`` that hands manage.py's commands
over and leaves all else to the real one. A command runs by the same function that manage.py calls, in a process of
its own; it reads no input, and knows no variables that were set after the start.
"""

import os
import sys
import tempfile
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

_PYTHON = """#!/bin/bash
if [ "$1" != manage.py ]; then exec {python} "$@"; fi
told=$(printf '%s\\0' "$@" | curl -sS --max-time 120 --data-binary @- http://127.0.0.1:{port}/ | tr -d '\\0') || exit 1
printf '%s\\n' "${{told#*$'\\n'}}"
exit "${{told%%$'\\n'*}}"
"""


def run(arguments: list[str]) -> tuple[int, bytes]:
    """Fork, run, wait: exit status, and what it printed, errors among it."""
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            sys.argv = arguments
            status = 70
            try:
                from commandcenter.commands import run as run_command

                run_command(arguments)
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            except BaseException:  # noqa: BLE001  # it is told as Python tells it, and the child ends
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, ended_by = os.waitpid(child, 0)
        out.seek(0)
        return os.waitstatus_to_exitcode(ended_by), out.read()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        told = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status, text = run(told.removesuffix("\0").split("\0"))
        body = f"{status}\n".encode() + text
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def main(port: int, folder: Path) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    # What its commands would import again and again.
    import config.urls  # noqa: F401
    import telemetry.clickhouse  # noqa: F401

    (folder / "python").write_text(_PYTHON.format(python=sys.executable, port=port))
    (folder / "python").chmod(0o755)
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
