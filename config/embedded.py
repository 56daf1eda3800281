"""Everything in one process: `python -m config.embedded` (what `make run` starts).

Web server, Celery worker and beat share the process because the embedded ClickHouse engine lets only
one process open its files. Production runs them apart (README).
"""

import argparse
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

log = logging.getLogger("config.embedded")


def main() -> int:
    options = _options()
    began = time.monotonic()
    import django

    _check_port(options.host, options.port)
    django.setup()
    from config import apart

    apart.trace("selection")
    alone = _alone()
    prepare()
    credentials, conversation = None, ""
    if options.demo:
        from django.utils import timezone

        from commandcenter.recorder import recorded
        from demo.load import example_conversation, load_demo

        with recorded("demo", "python -m config.embedded --demo"):
            credentials = load_demo(timezone.now, _say)
        conversation = example_conversation("aurora", "essayist", timezone.now())
    with ExitStack() as running:
        _start_celery(running)
        url = start_web(running, options.host, options.port)
        if credentials:
            _start_live(running, url, credentials.service_key)
        _say(f"ready after {time.monotonic() - began:.1f} s")
        _announce(url, credentials, conversation)
        _wait_for_signal()
        _say("stopping")
    from telemetry.clickhouse import close_clickhouse

    close_clickhouse()
    alone.close()
    _say("stopped")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m config.embedded",
        description="Web, worker and beat in one process, on embedded engines.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one; default %(default)s")
    parser.add_argument("--demo", action="store_true", help="load the demo and send live traffic")
    return parser.parse_args()


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: 0 to 65535")
    return int(text)


def _check_port(host: str, port: int) -> None:
    # Before anything is prepared: nothing shall be migrated by a run that cannot be.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> SystemExit:
    return SystemExit(f"selection: cannot listen on {host}:{port}: {error.strerror}. Try PORT=8001.")


def _alone() -> IO[str]:
    """Hold the data folder while this process runs: the embedded engine lets one process open its files."""
    from django.conf import settings

    settings.DATA_DIR.mkdir(parents=True, exist_ok=True)
    file = (settings.DATA_DIR / "embedded.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(
            f"selection: another process uses {settings.DATA_DIR}: stop it, or set DATA_DIR to another folder."
        ) from None
    return file


def _say(message: str) -> None:
    print(f"selection: {message}", flush=True)  # noqa: T201  # this is a program's face


def prepare() -> None:
    """Bring both databases up to date."""
    from django.conf import settings
    from django.core.management import call_command

    if settings.ENV.redis_url:
        _say("note: REDIS_URL is set; this process's worker and beat will use that broker")
    call_command("migrate", verbosity=0, interactive=False)
    call_command("clickhouse_migrate", verbosity=0)


def _start_celery(running: ExitStack) -> None:
    from celery.beat import EmbeddedService

    from config.celery import app

    app.set_default()
    app.finalize()
    app.loader.import_default_modules()
    # WorkController, not the worker command: it leaves the process's signal handlers alone.
    worker: Any = app.WorkController(
        app=app,
        pool_cls="threads",
        concurrency=2,
        loglevel=logging.WARNING,
        without_heartbeat=True,
        without_mingle=True,
        without_gossip=True,
    )
    thread = threading.Thread(target=worker.start, name="celery-worker", daemon=True)
    thread.start()
    running.callback(thread.join, 10)
    running.callback(worker.stop)
    beat: Any = EmbeddedService(app, max_interval=1, thread=True)
    beat.daemon = True
    beat.start()
    running.callback(beat.stop)


def start_web(running: ExitStack, host: str, port: int) -> str:
    """Serve from threads of this process until ``running`` is left; the URL. Port 0 takes a free one."""
    from waitress import server as waitress

    listen: Any = waitress.create_server

    from config.wsgi import application

    try:
        server: Any = listen(application, host=host, port=port, threads=8, ident="")
    except OSError as error:
        raise _cannot_listen(host, port, error) from None
    thread = threading.Thread(target=server.run, name="web", daemon=True)
    thread.start()
    running.callback(server.close)
    # First let running requests end (5 s at most): they answer through the server that closes next.
    running.callback(server.task_dispatcher.shutdown)
    return f"http://{host}:{server.effective_port}"


def _start_live(running: ExitStack, url: str, key: str) -> None:
    from django.conf import settings
    from django.utils import timezone

    from demo.live import LiveTraffic

    live = LiveTraffic(url, key, timezone.now, settings.DATA_DIR / "worker")
    live.start()
    running.callback(live.stop)


def _announce(url: str, credentials: Any, conversation: str) -> None:
    lines = ["", f"  Command Center   {url}/admin/center/", f"  API docs         {url}/api/docs/"]
    if credentials:
        asked = {
            "tenant": "aurora",
            "persona": "essayist",
            "conversation_id": conversation,
            "task": "essay",
        }
        lines += [
            f"  admin login      admin / {credentials.admin_password}",
            f"  operator login   operator / {credentials.operator_password}   (overrides for single tenants)",
            "",
            "  Ask for a profile:",
            "",
            f"  curl -s {url}/api/v1/selections -H 'Authorization: Api-Key {credentials.service_key}' \\",
            "    -H 'Content-Type: application/json' \\",
            f"    -d '{json.dumps(asked)}'",
        ]
    elif not _somebody():
        lines += ["", "  Nobody can sign in yet: run  python manage.py createsuperuser"]
    print("\n".join([*lines, "", "  Ctrl-C stops everything.", ""]), flush=True)  # noqa: T201


def _somebody() -> bool:
    from django.contrib.auth.models import User

    return User.objects.filter(is_staff=True, is_active=True).exists()


def _wait_for_signal() -> None:
    stop = threading.Event()
    handler: Callable[..., None] = lambda *_: stop.set()  # noqa: E731
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    while not stop.wait(1):
        pass


if __name__ == "__main__":
    sys.exit(main())
