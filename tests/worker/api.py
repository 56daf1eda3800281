"""A small selection service on a loopback port, to be asked, broken and looked at. Same contract, same engine."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from routing.engine import Bundle, SelectionProblem, SelectionRequest, decide
from telemetry.events import Rejected, parse
from tests.routing.cases import NOW


@dataclass
class Api:
    """``fault``: None, "silent" (accepts, never answers), "drip" (a body that never ends), an HTTP status of
    500 or more, or ``(status, code)`` of a problem. It holds for the paths that contain ``fault_on``."""

    bundle: Bundle | None
    at: datetime = NOW
    key: str = "key"
    fault: int | str | tuple[int, str] | None = None
    fault_on: str = "/"
    refuse: frozenset[str] = frozenset()
    received: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    decided: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Api":
        self.stopping.clear()
        self._server = _Server(("127.0.0.1", self.port), type("Handler", (_Handler,), {"api": self}))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """As a killed process: connections end, the port refuses. It can be started again on it."""
        self.stopping.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def count(self, path: str) -> int:
        return sum(path in asked for _, asked, _ in self.requests)

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/api/v1/selections" and method == "POST":
            return self._select(body)
        if path == "/api/v1/selections/batch" and method == "POST":
            return self._batch(body["decisions"], self.decisions, "decision_id")
        if path == "/api/v1/telemetry/completions" and method == "POST":
            return self._batch(body, self.events, "event_id")
        return problem(404, "not_found", "no such address")

    def _select(self, body: dict[str, Any]) -> tuple[int, Any]:
        assert self.bundle
        request = SelectionRequest(
            tenant=body["tenant"],
            persona=body["persona"],
            conversation_id=body["conversation_id"],
            at=self.at,
            task=body.get("task", "general"),
            exclude=tuple(body.get("exclude", ())),
            last_profile=self.last.get(body["conversation_id"]),
            request_id=body.get("request_id"),
        )
        try:
            decision = decide(self.bundle, request)
        except SelectionProblem as error:
            return problem(error.status, error.code, error.detail)
        self.last[request.conversation_id] = decision.profile.slug
        self.decided.append(decision.to_dict())
        return 200, decision.to_dict()

    def _batch(self, items: list[Any], into: list[dict[str, Any]], name: str) -> tuple[int, Any]:
        rejected = []
        for index, item in enumerate(items):
            try:
                if name == "event_id":
                    parse(item)
                if item[name] in self.refuse:
                    raise Rejected("unknown_profile", "profile: there is no such one.")
                into.append(item)
            except Rejected as error:
                rejected.append({"index": index, "code": error.code, "detail": error.detail})
        verdict = {"accepted": len(items) - len(rejected), "rejected": rejected}
        if not verdict["accepted"]:
            return 422, {**problem(422, "all_rejected", "none was accepted")[1], **verdict}
        return 202, verdict


def problem(status: int, code: str, detail: str) -> tuple[int, Any]:
    return status, {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Clients give up in the middle; that is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: Api

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def _handle(self, method: str) -> None:
        api = self.api
        if api.stopping.is_set():
            # A connection that was kept open past ``stop``.
            self.close_connection = True
            return
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        api.received.append(self.path)
        fault = api.fault if api.fault_on in self.path else None
        if fault == "silent":
            api.stopping.wait(30)
            self.close_connection = True
        elif fault == "drip":
            self._drip()
        elif isinstance(fault, int):
            self._send(fault, b"<h1>broken</h1>", "text/html")
        elif isinstance(fault, tuple):
            self._json(*problem(fault[0], fault[1], "as told"))
        elif self.headers.get("Authorization") != f"Api-Key {api.key}":
            self._json(*problem(401, "authentication_failed", "no such key"))
        elif self.path == "/api/v1/policy":
            self._policy()
        else:
            self._json(*api.answer(method, self.path, json.loads(raw) if raw else None))

    def _policy(self) -> None:
        if self.api.bundle is None:
            return self._json(*problem(503, "no_policy", "not yet"))
        etag = f'"{self.api.bundle.version}"'
        if self.headers.get("If-None-Match") == etag:
            return self._send(304, b"", "application/json", etag)
        body = gzip.compress(json.dumps(self.api.bundle.to_dict()).encode())
        return self._send(200, body, "application/json", etag, "gzip")

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.api.stopping.wait(0.02):
            self.wfile.write(b" ")
        self.close_connection = True

    def _json(self, status: int, document: Any) -> None:
        kind = "application/json" if status < 400 else "application/problem+json"
        self._send(status, json.dumps(document).encode(), kind)

    def _send(self, status: int, body: bytes, kind: str, etag: str = "", encoding: str = "") -> None:
        self.api.requests.append((self.command, self.path, status))
        self.send_response(status)
        headers = {"Content-Type": kind, "ETag": etag, "Content-Encoding": encoding}
        if status != 304:
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(bundle: Bundle | None, **fields: Any) -> Iterator[Api]:
    api = Api(bundle, **fields).start()
    try:
        yield api
    finally:
        api.stop()
