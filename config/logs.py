"""What is logged, and how (docs/observability.md)."""

from typing import Any


def logging_config(level: str, *, as_json: bool) -> dict[str, Any]:
    """For Django's LOGGING: everything to standard error, a line or a JSON object each."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"context": {"()": "observability.logs.Context"}},
        "formatters": {
            "line": {"()": "observability.logs.Lines"},
            "json": {"()": "observability.logs.JsonLines"},
        },
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "formatter": "json" if as_json else "line",
                "filters": ["context"],
            }
        },
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # Django's own console handler would print everything a second time.
            "django": {"handlers": [], "propagate": True},
            # Addresses of webhooks may hold secrets, and one line per event tells nobody anything.
            "httpx": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            # Each step of each sign-in; failures and lockouts are warnings.
            "axes": {"level": "WARNING"},
            # One line a minute per task is enough; failures are logged by the tasks themselves.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
            "kombu.connection": {"level": "ERROR"},
        },
    }
