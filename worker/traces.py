"""OpenTelemetry traces of a worker, if OTEL_EXPORTER_OTLP_ENDPOINT is set and requirements-otel.txt installed.

The trace goes on in the service and at the provider: both get a ``traceparent`` header. Spans hold no prompts.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

_OFF: AbstractContextManager[Any] = nullcontext()
_tracer: Any = None


def start(endpoint: str) -> None:
    """Trace this process, once, to the collector at ``endpoint`` (OTLP over HTTP); empty: do not. Before a client is
    made. ImportError: the packages are not installed."""
    global _tracer
    if not endpoint or _tracer is not None:
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "selection-worker"}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    celery: Any = CeleryInstrumentor
    celery().instrument()
    HTTPXClientInstrumentor().instrument()
    _tracer = provider.get_tracer("selection-worker")


def span(name: str) -> AbstractContextManager[Any]:
    """Something that takes time, within what runs now."""
    if _tracer is None:
        return _OFF
    opened: AbstractContextManager[Any] = _tracer.start_as_current_span(name)
    return opened
