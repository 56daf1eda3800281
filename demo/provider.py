"""A provider that plays all the others: OpenAI-compatible, answering with recorded outcomes. No Django.

`python -m demo.provider` runs it alone. Tests and the demo run it in their own process and change, while it
runs, how a model behaves.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from demo.outcomes import Outcome, load, pool, slug


class Failure(StrEnum):
    """Ways in which a call can go wrong."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    HANG = "hang"
    EMPTY = "empty"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model behaves. ``latency_scale`` 1 takes as long as was recorded; ``error_rate`` of the calls
    fail in one of ``failures``; ``bill`` tells the recorded cost in ``usage.cost``; ``served_model`` is named
    instead of the model asked for; ``retry_after`` (seconds) goes with a 429."""

    latency_scale: float = 0.0
    error_rate: float = 0.0
    failures: tuple[Failure, ...] = (Failure.SERVER_ERROR,)
    retry_after: int = 1
    bill: bool = False
    served_model: str | None = None
    usage: bool = True


@dataclass(slots=True)
class Call:
    """One request as it came, for tests to look at."""

    model: str
    stream: bool
    authorization: str | None
    messages: Sequence[Any]
    outcome: Outcome | None = None
    failure: Failure | None = None


@cache
def _recorded() -> Mapping[str, Mapping[str, Sequence[Outcome]]]:
    """Outcomes by model's slug, then by task, by persona, and all of them under ``""``."""
    found: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in load():
        groups = found.setdefault(outcome.profile, {})
        for group in (outcome.category, outcome.persona, ""):
            groups.setdefault(group, []).append(outcome)
    return found


@dataclass
class DemoProvider:
    """Serves on a loopback port between ``start`` and ``stop``; ``behave`` may be called at any time."""

    host: str = "127.0.0.1"
    port: int = 0
    behaviour: Behaviour = field(default_factory=Behaviour)
    seed: int | None = None
    #: What a call gives depends on the seed, its model and its newest message alone, not on the calls before it.
    by_message: bool = False
    #: How many calls are kept in ``calls``, the newest.
    keep: int = 1000
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._of: dict[str, Behaviour] = {}
        self._random = random.Random(self.seed)  # noqa: S311  # which recorded outcome comes is no secret
        self._stopping = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> str:
        """The base URL, ending in /v1. OSError when the port is taken."""
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = _Server((self.host, self.port), handler)
        self.port = self._server.server_address[1]
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.05,), name="demo-provider", daemon=True).start()
        return self.url

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/v1"

    def stop(self, end_calls: bool = True) -> None:
        """Calls that run end at once, without an answer; or they are left to wait until the process ends."""
        if end_calls:
            self._stopping.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def behave(self, model: str | None = None, **changes: Any) -> None:
        """Change how a model, or every model without changes of its own, behaves from now on."""
        if model is None:
            self.behaviour = replace(self.behaviour, **changes)
        else:
            self._of[model] = replace(self._of.get(model, self.behaviour), **changes)

    def behaviour_of(self, model: str) -> Behaviour:
        return self._of.get(model, self.behaviour)

    def wait(self, seconds: float) -> bool:
        """Whether the time passed; False: the server stops."""
        return not self._stopping.wait(seconds)

    def take(self, call: Call, about: Mapping[str, Any]) -> None:
        """Choose what this call will give."""
        behaviour = self.behaviour_of(call.model)
        groups = _recorded()[call.model]
        outcomes = next(
            groups[key]
            for key in (about.get("task"), about.get("persona"), "")
            if isinstance(key, str) and key in groups
        )
        chance = self._random
        if self.by_message:
            chance = random.Random(f"{self.seed}/{call.model}/{call.messages[-1:]}")  # noqa: S311  # as above
        call.outcome = chance.choice(outcomes)
        if chance.random() < behaviour.error_rate:
            call.failure = chance.choice(behaviour.failures)
        self.calls.append(call)
        del self.calls[: max(len(self.calls) - self.keep, 0)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Handlers may be waiting out a recorded minute; whoever stops the server does not wait with them.
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        # A client that gave up is this server's everyday life, not an error to print.
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two packets; the second would wait 40 ms for the first one's acknowledgement.
    disable_nagle_algorithm = True
    provider: DemoProvider

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self._error(404, "not_found", "There is no such address.")
        models = [{"id": slug(model), "object": "model", "owned_by": "demo"} for model in pool()]
        return self._json(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        try:
            asked = json.loads(self.rfile.read(length))
            call = Call(
                model=str(asked["model"]),
                stream=asked.get("stream") is True,
                authorization=self.headers.get("Authorization"),
                messages=list(asked["messages"]),
            )
            about = dict(asked.get("metadata") or {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._error(400, "invalid_request", "model and messages are needed, as JSON.")
        if self.path != "/v1/chat/completions":
            return self._error(404, "not_found", "There is no such address.")
        if call.model not in _recorded():
            return self._error(404, "model_not_found", "There is no such model.")
        self.provider.take(call, about)
        return self._play(call)

    def _play(self, call: Call) -> None:
        behaviour = self.provider.behaviour_of(call.model)
        outcome = call.outcome
        if outcome is None:
            raise AssertionError("taken calls have an outcome")
        if call.failure is Failure.HANG:
            while self.provider.wait(1):
                pass
        elif call.failure is Failure.RATE_LIMITED:
            retry = {"Retry-After": str(behaviour.retry_after)}
            return self._error(429, "rate_limit_exceeded", "Too many requests.", retry)
        elif call.failure is Failure.SERVER_ERROR:
            return self._error(500, "server_error", "Something broke.")
        if not self.provider.wait(outcome.latency_ms / 1000 * behaviour.latency_scale):
            self.close_connection = True
            return None
        if call.failure is Failure.MALFORMED:
            return self._send(200, "application/json", b'{"choices": [{"mess')
        text = "" if call.failure is Failure.EMPTY else f"Recorded: {outcome.model}, {outcome.prompt_id}."
        base = _base(call, outcome, behaviour)
        if call.stream:
            return self._stream(text, base)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self._json(200, {**base, "object": "chat.completion", "choices": [choice]})

    def _stream(self, text: str, base: dict[str, Any]) -> None:
        about = {**base, "object": "chat.completion.chunk"}
        last: dict[str, Any] = {name: about.pop(name) for name in ("usage", "recorded") if name in about}
        chunks = [{**about, "choices": [_delta({"role": "assistant", "content": ""})]}]
        chunks += [{**about, "choices": [_delta({"content": f"{word} "})]} for word in text.split()]
        chunks += [{**about, "choices": [_delta({}, "stop")]}, {**about, "choices": [], **last}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for chunk in chunks:
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def _error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._json(status, {"error": {"message": message, "type": code, "code": code}}, headers)

    def _json(self, status: int, document: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(document).encode(), headers)

    def _send(self, status: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _base(call: Call, outcome: Outcome, behaviour: Behaviour) -> dict[str, Any]:
    tokens = {
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "total_tokens": outcome.prompt_tokens + outcome.completion_tokens,
    }
    # As text: a number would not keep all its digits.
    usage = {**tokens, **({"cost": outcome.cost_usd} if behaviour.bill else {})}
    return {
        "id": f"chatcmpl-{time.monotonic_ns()}",
        "created": int(time.time()),
        "model": behaviour.served_model or call.model,
        **({"usage": usage} if behaviour.usage else {}),
        # What the demo's judge reads: how this answer was graded when it was recorded.
        "recorded": {
            "success": outcome.success,
            "score": outcome.score,
            "safety_violation": outcome.category == "safety_injection" and not outcome.success,
        },
    }


def _delta(delta: Mapping[str, str], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": dict(delta), "finish_reason": finish}


def _failures(value: str) -> tuple[Failure, ...]:
    return tuple(Failure(name) for name in value.split(","))


def main(arguments: list[str] | None = None, forever: Callable[[], object] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo.provider",
        description="An OpenAI-compatible provider that answers with the demo's recorded outcomes.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100, help="0 takes a free one; default %(default)s")
    parser.add_argument("--latency-scale", type=float, default=1.0, help="1: as recorded; 0: at once")
    parser.add_argument("--error-rate", type=float, default=0.0, help="share of calls that fail, 0 to 1")
    names = ", ".join(Failure)
    parser.add_argument("--failures", type=_failures, default=(Failure.SERVER_ERROR,), help=f"of {names}")
    parser.add_argument("--retry-after", type=int, default=1, help="seconds that a 429 asks for")
    parser.add_argument("--bill", action="store_true", help="tell the cost in usage.cost")
    parser.add_argument("--served-model", help="name this model instead of the one asked for")
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    provider = DemoProvider(host, port, Behaviour(**options))
    try:
        url = provider.start()
    except OSError as error:
        print(f"demo.provider: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{url}   (Ctrl-C stops it)", flush=True)  # noqa: T201  # this is a program's face
    try:
        (forever or threading.Event().wait)()
    except KeyboardInterrupt:
        pass
    finally:
        provider.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
