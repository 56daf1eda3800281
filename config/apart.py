"""What processes that run apart do when they begin: share their meters with the others of their host."""

from typing import Any


def begin_web() -> None:
    """In each process of the web server, once Django is set up."""
    _share()


def begin_worker(**_: Any) -> None:
    """In a Celery worker, before its pool forks."""
    _share()


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
