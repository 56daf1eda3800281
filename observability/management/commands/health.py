"""`manage.py health [web|worker|beat]`: for health checks of systemd and compose; exits with 1 when something is not
well."""

import sys
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError
from django.utils import timezone

from observability import heartbeats
from observability.models import Heartbeat

_TIMEOUT_SECONDS = 5.0


class Command(BaseCommand):
    help = "Say whether the web server is ready, and whether beat and Celery's workers do their work."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("process", nargs="*", help="web, worker or beat; default: worker and beat")
        parser.add_argument(
            "--within", type=float, default=heartbeats.SILENT.total_seconds(), help="seconds; default 90"
        )
        parser.add_argument("--here", action="store_true", help="count heartbeats of this host only")
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="the web server's own address")

    def handle(self, *_: Any, **options: Any) -> None:
        wanted = options["process"] or ["worker", "beat"]
        if unknown := set(wanted) - {"web", "worker", "beat"}:
            raise CommandError(f"there is no process '{sorted(unknown)[0]}': name web, worker or beat")
        well = True
        for name in wanted:
            ok, words = _web(options["url"]) if name == "web" else _process(name, options)
            self.stdout.write(f"{name}: {'ok' if ok else 'NOT WELL'}: {words}")
            well = well and ok
        if not well:
            sys.exit(1)


def _process(name: str, options: dict[str, Any]) -> tuple[bool, str]:
    now = timezone.now()
    try:
        pulse = heartbeats.last(Heartbeat.Kind(name), heartbeats.host() if options["here"] else None)
    except DatabaseError as error:
        return False, f"the database cannot be asked for heartbeats ({type(error).__name__})"
    if pulse.at is None:
        return False, "no heartbeat so far" + (f" of {pulse.host}" if pulse.host else "")
    words = f"{pulse.silent_seconds(now):.0f} s ago on {pulse.host} ({pulse.task})"
    return not pulse.is_silent(now, timedelta(seconds=options["within"])), words


def _web(url: str) -> tuple[bool, str]:
    try:
        # The process itself is asked, not what an environment says stands in front of it.
        answer = httpx.get(f"{url.rstrip('/')}/readyz", timeout=_TIMEOUT_SECONDS, trust_env=False)
        checks = answer.json()["checks"]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return False, f"{url} does not answer ({type(error).__name__})"
    except (ValueError, KeyError, TypeError):
        return False, f"{url} gave status {answer.status_code}, and no readiness"
    bad = [name for name, check in checks.items() if not check["ok"]]
    words = "ready" if answer.status_code == 200 else f"not ready (status {answer.status_code})"
    return answer.status_code == 200, words + (f"; not ok: {', '.join(bad)}" if bad else "")
