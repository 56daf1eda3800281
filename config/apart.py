"""What processes that run apart do when they begin: share their meters with the others of their host; trace."""

import signal
import threading
from typing import Any


def trace(service: str) -> None:
    """Trace this process if a collector is named; in a web server's before Django's handler is made."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    from observability import traces

    try:
        traces.start(service, settings.OTLP_ENDPOINT)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"OTEL_EXPORTER_OTLP_ENDPOINT: {error.name} is not installed: see requirements-otel.txt"
        ) from error


def begin_web() -> None:
    """In each process of the web server, once Django is set up."""
    _share()


def expect_decisions() -> None:
    """Tell of every kind of decision from the start, as 0: Prometheus sees no rise in what was not there before."""
    from observability.meters import meters
    from routing.decision import Reason
    from routing.models import Selection

    for reason in Reason:
        for source in (Selection.Source.REMOTE, Selection.Source.JOURNAL):
            meters().decisions(reason.value, source.value)
    for status in ("2xx", "4xx", "5xx"):
        meters().requests("POST", "selections", status)


def begin_worker(**_: Any) -> None:
    """In a Celery worker, before its pool forks."""
    _share()
    trace("selection-celery")


def begin_beat(sender: Any, **_: Any) -> None:
    """In beat's process; the embedded one traces already, and leaves signals to whom they are for."""
    trace("selection-beat")
    if threading.current_thread() is threading.main_thread():
        _end_on_signals(sender)


def _end_on_signals(beat: Any) -> None:
    # Celery's own handler closes the broker's connection, which may be in use where the signal falls: the error of that
    # takes the place of SystemExit, is logged as one of the task, and beat goes on. Here it is closed on the way out.
    def end(*_: object) -> None:
        beat.stop()
        raise SystemExit

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def serve_metrics(**_: Any) -> None:
    """In a Celery worker that takes tasks: what has no web server beside it is scraped by itself."""
    from django.conf import settings

    from observability.sharing import serve

    if settings.METRICS_LISTEN:
        serve(settings.METRICS_LISTEN)


def _share() -> None:
    from django.conf import settings

    from observability.sharing import share

    share(settings.DATA_DIR)
