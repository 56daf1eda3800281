"""Traces are optional: off they cost nothing, and half installed they are refused by name."""

import sys
from contextvars import ContextVar
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import apart
from observability import traces
from worker import __main__ as program
from worker.bounded import BoundedCaller

MISSING = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def test_without_a_collector_spans_do_nothing(settings: Any) -> None:
    settings.OTLP_ENDPOINT = ""
    apart.trace("selection-web")
    with traces.span("a"), traces.span("b", c="d"):
        assert traces.current_trace_id() is None


def test_a_collector_without_the_packages_stops_the_start_by_name(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.OTLP_ENDPOINT = "http://127.0.0.1:4318"
    monkeypatch.setitem(sys.modules, MISSING, None)
    with pytest.raises(ImproperlyConfigured, match=f"{MISSING} is not installed: see requirements-otel.txt"):
        apart.trace("selection-web")


def test_so_does_a_workers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, MISSING, None)
    assert program.main(["status"]) == 2
    assert "is not installed" in capsys.readouterr().err


def test_what_runs_in_another_thread_still_belongs_to_who_called_it() -> None:
    where: ContextVar[str] = ContextVar("where", default="nowhere")
    caller = BoundedCaller(2, "test")
    for place in ("here", "there"):
        where.set(place)
        assert caller.call(where.get, 30) == place
    caller.close()
