"""One conversation is one trace, over the worker, the service and the provider; a drain is one over beat, Celery and
ClickHouse. Real processes, and a collector that takes what they send."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.flows.apart import ROOT, SEED, Apart, apart
from tests.services import ServiceMissing, redis, wait_until
from tests.telemetry.engines import missing
from tests.worker.scenes import DEFAULT

pytestmark = [pytest.mark.services, pytest.mark.slow]
ANSWER = {
    "choices": [{"message": {"role": "assistant", "content": "PRIVATE-ANSWER"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
}


@dataclass
class Sink:
    """Takes spans as a collector does, and chat completions as a provider does; keeps both."""

    url: str = ""
    raw: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def spans(self) -> list[tuple[str, str, str, str]]:
        """Service, name, trace and parent's span id of every span."""
        found = []
        for body in list(self.raw):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [
                        (attributes["service.name"], one.name, one.trace_id.hex(), one.parent_span_id.hex())
                        for one in scope.spans
                    ]
        return found

    def traces(self, service: str, name: str) -> set[str]:
        return {trace for of, what, trace, _ in self.spans() if of == service and name in what}


@contextmanager
def listening() -> Iterator[Sink]:
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = b""
            if self.path == "/v1/traces":
                sink.raw.append(body)
            else:
                sink.asked.append(self.headers.get("traceparent", ""))
                answer = orjson.dumps(ANSWER)
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if answer else "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield sink
        server.shutdown()


def converse(product: Apart, sink: Sink, key: str, folder: Path) -> None:
    environment = {
        **product.environment,
        "WORKER_API_URL": f"http://127.0.0.1:{product.port}",
        "WORKER_API_KEY": key,
        "WORKER_STATE_DIR": str(folder),
        "WORKER_DEFAULT_PROFILE": DEFAULT.model_dump_json(),
        "WORKER_READ_TIMEOUT_MS": "5000",
        "WORKER_PROVIDER_URLS": orjson.dumps({"*": f"{sink.url}/v1"}).decode(),
    }
    command = [sys.executable, "-m", "worker", "ask", "PRIVATE-PROMPT"]
    about = ["--tenant", "aurora", "--persona", "essayist"]
    done = subprocess.run(
        [*command, *about], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "(remote)" in done.stdout, done.stdout + done.stderr


def test_a_conversation_and_a_drain_are_one_trace_each(tmp_path: Path) -> None:
    try:
        with (
            redis() as broker,
            listening() as sink,
            apart(
                tmp_path,
                REDIS_URL=broker.url,
                CLICKHOUSE_URL="clickhouse://127.0.0.1:1/selection",
                OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
                OTEL_BSP_SCHEDULE_DELAY="200",
            ) as product,
        ):
            product.manage("migrate")
            key = product.manage("shell", "--no-imports", "-c", SEED).splitlines()[-1]
            product.start_web()
            product.start_worker()
            product.start_beat()
            converse(product, sink, key, tmp_path / "worker")
            wait_until(lambda: bool(sink.traces("selection-web", "selections")), "the web server's span")

            [trace] = sink.traces("selection-worker", "conversation")
            assert trace in sink.traces("selection-web", "POST api/v1/selections")
            assert [asked.split("-")[1] for asked in sink.asked] == [trace]

            def drained() -> bool:
                sent = sink.traces("selection-beat", "telemetry.tasks.drain_spool")
                done = sink.traces("selection-celery", "run/telemetry.tasks.drain_spool")
                return bool(sent & done & sink.traces("selection-celery", "clickhouse insert"))

            wait_until(drained, "a trace of beat, the task and ClickHouse")
            everything = b"".join(sink.raw)
            for private in (b"PRIVATE-PROMPT", b"PRIVATE-ANSWER", key.encode()):
                assert private not in everything
    except ServiceMissing as reason:
        missing(reason)


@pytest.mark.parametrize("module", ["config.wsgi", "config.celery", "worker.__main__"])
def test_without_a_collector_nothing_is_instrumented(tmp_path: Path, module: str) -> None:
    # Not all of it: redis imports OpenTelemetry's metrics by itself where they are installed.
    ours = "('opentelemetry.instrumentation', 'opentelemetry.exporter', 'opentelemetry.sdk.trace')"
    code = f"import sys, {module}; print([name for name in sys.modules if name.startswith({ours})])"
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**kept, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
