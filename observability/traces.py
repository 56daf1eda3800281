"""OpenTelemetry traces, if OTEL_EXPORTER_OTLP_ENDPOINT is set and requirements-otel.txt installed. Otherwise nothing of
it is imported, and a span costs a comparison.

Spans name routes, tasks and operations; they hold no SQL, no headers, no bodies.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

_OFF: AbstractContextManager[Any] = nullcontext()
#: Nobody wants a trace of each probe and scrape.
_LEFT_OUT = "healthz,readyz,metrics$"
_tracer: Any = None


def start(service: str, endpoint: str) -> None:
    """Trace this process, once, as ``service``, to the collector at ``endpoint`` (OTLP over HTTP); empty: do not.
    Before Django's handler is made. ImportError: the packages are not installed."""
    global _tracer
    if not endpoint or _tracer is not None:
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.celery import CeleryInstrumentor
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument(excluded_urls=_LEFT_OUT)
    celery: Any = CeleryInstrumentor
    celery().instrument()
    HTTPXClientInstrumentor().instrument()
    _tracer = provider.get_tracer("selection")


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """Something that takes time, within what runs now."""
    if _tracer is None:
        return _OFF
    opened: AbstractContextManager[Any] = _tracer.start_as_current_span(name, attributes=attributes)
    return opened


def current_trace_id() -> str | None:
    """32 hex digits, as the collector shows them; None: nothing is traced now."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
