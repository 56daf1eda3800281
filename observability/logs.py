"""Log lines for people or for machines, with the ids of the request or task and of its trace, and without secrets."""

import logging
import re
import time
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from observability import ids, traces

#: What a JSON line may hold. Whatever else a library attaches to a record (Django attaches the request) stays out.
FIELDS = ("time", "level", "logger", "message", "request_id", "trace_id", "process", "exc_info", "stack_info")
_HIDDEN = "[hidden]"
# A last net: nothing of ours writes such things, but an exception's text may quote what it was given.
_SECRETS = (
    (re.compile(r"(?i)\b(api-key|bearer|basic)\s+[^\s'\",;]+"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\b([A-Za-z0-9]{8})\.[A-Za-z0-9]{32}\b"), rf"\1.{_HIDDEN}"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/=_-]+"), f"whsec_{_HIDDEN}"),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s:@]*:[^/\s@]+@"), rf"\1{_HIDDEN}@"),
    (re.compile(r"(?i)\b((?:password|secret|token|sessionid|csrftoken)=)[^\s&;,'\"]+"), rf"\1{_HIDDEN}"),
)


def without_secrets(text: str) -> str:
    """The text with what looks like a key, a webhook's secret or a password left out."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class Context(logging.Filter):
    """Gives each record the id of what it belongs to; empty: of nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = ids.current() or ""
        record.trace_id = traces.current_trace_id() or ""
        return True


class Lines(logging.Formatter):
    """For people: ``2026-11-28 04:00:00,123 INFO routing.health [id] message``, in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}{of} {message}", style="{")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's name
        name = getattr(record, "request_id", "")
        record.of = f" [{name}]" if name else ""
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class JsonLines(JsonFormatter):
    """For machines: an object per line with FIELDS, ``time`` in ISO 8601 and UTC; empty ones are left out."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__(
            "{asctime}{levelname}{name}{message}{request_id}{trace_id}{process}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {name: log_data[name] for name in FIELDS if log_data.get(name)}

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
