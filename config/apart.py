"""What processes that run apart do when they begin: share their meters with the others of their host; trace."""

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


def begin_beat(**_: Any) -> None:
    """In beat's process; the embedded one traces already."""
    trace("selection-beat")


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
