"""Chat completions of OpenAI-compatible providers: one call, bounded in time, with typed errors.

Nothing of prompts or answers is logged, and no error's text repeats what a provider wrote: it may quote them.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from worker.bounded import BoundedCaller
from worker.chat import ChatAnswer, read_answer, read_stream
from worker.settings import Profile, Settings
from worker.wire import DIRECT

log = logging.getLogger(__name__)

#: Calls at once in one process; they are waited for, not computed.
_AT_ONCE = 256
_TOO_MUCH = 16 * 1024 * 1024
_LONGEST_RETRY_AFTER = 3600.0


class ProviderError(Exception):
    """A call gave no answer. ``code`` is the completion event's ``error_code``; ``answer`` holds what is
    known of the usage when the provider billed for nothing useful."""

    code = "provider_error"

    def __init__(self, detail: str, answer: ChatAnswer | None = None) -> None:
        super().__init__(detail)
        self.answer = answer


class ProviderTimeout(ProviderError):
    """No whole answer in time."""

    code = "timeout"


class ProviderUnreachable(ProviderError):
    """No connection, or one that broke."""

    code = "unreachable"


class RateLimited(ProviderError):
    """429; ``retry_after`` in seconds, when the provider says."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after: float | None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class ProviderFailed(ProviderError):
    """A 5xx."""

    code = "server_error"


class ProviderRefusedKey(ProviderError):
    """401 or 403: see WORKER_PROVIDER_KEYS."""

    code = "auth"


class ProviderRefused(ProviderError):
    """Another 4xx: this provider will not take this request (too long, an unknown model, ...)."""

    code = "refused"


class MalformedAnswer(ProviderError):
    """Not a chat completion."""

    code = "malformed"


class EmptyAnswer(ProviderError):
    """A chat completion without text."""

    code = "empty"


class ProvidersClosed(Exception):
    """The worker closed while it waited: what the provider would have answered is not known, and is neither
    a success nor a failure."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a call gave, and how long it took (milliseconds)."""

    answer: ChatAnswer
    latency_ms: int


Messages = Sequence[Mapping[str, Any]]


class Providers:
    """Thread-safe. One connection pool for all providers; close it at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._closed = False
        self._caller = BoundedCaller(_AT_ONCE, "provider")
        self._http = httpx.Client(
            mounts=dict(DIRECT),
            headers={"User-Agent": "selection-worker"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_AT_ONCE),
        )

    def close(self) -> None:
        """Calls that run end with ProvidersClosed."""
        self._closed = True
        self._caller.close()
        self._http.close()

    def complete(
        self,
        profile: Profile,
        messages: Messages,
        seconds: float,
        on_text: Callable[[str], None] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Completion:
        """The whole answer within ``seconds``, else a ProviderError (or ProvidersClosed). With ``on_text`` it
        is streamed, and each piece is handed over as it comes (in another thread, and never after the time
        is up)."""
        call = _Call(time.monotonic() + seconds, on_text)
        try:
            answer = self._caller.call(lambda: self._converse(profile, messages, call, metadata), seconds)
        except (ProviderError, TimeoutError) as error:
            call.given_up = True
            if self._closed:
                raise ProvidersClosed from None
            if isinstance(error, ProviderError):
                raise
            raise ProviderTimeout(f"no answer within {seconds:.1f} s") from None
        return Completion(answer, call.elapsed_ms())

    def _converse(
        self, profile: Profile, messages: Messages, call: "_Call", metadata: Mapping[str, str] | None
    ) -> ChatAnswer:
        body: dict[str, Any] = {"model": profile.model, "messages": list(messages)}
        if call.on_text:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if metadata:
            body["metadata"] = dict(metadata)
        try:
            with self._http.stream(
                "POST", self._url(profile), json=body, headers=self._key(profile), timeout=self._timeout(call)
            ) as response:
                _raise_for(response)
                answer = _read(response, call)
        except httpx.TimeoutException as error:
            raise ProviderTimeout(type(error).__name__) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError) as error:
            # RuntimeError is how httpx says that the client was closed meanwhile.
            raise ProviderUnreachable(type(error).__name__) from None
        except ValueError as error:
            raise MalformedAnswer(str(error)) from None
        if not answer.text.strip():
            raise EmptyAnswer("a completion without text", answer)
        return answer

    def _url(self, profile: Profile) -> str:
        urls = self._settings.provider_urls
        base = urls.get(profile.provider) or urls.get("*") or profile.base_url
        return f"{base.rstrip('/')}/chat/completions"

    def _key(self, profile: Profile) -> dict[str, str]:
        key = self._settings.provider_keys.get(profile.provider)
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _timeout(self, call: "_Call") -> httpx.Timeout:
        left = call.left()
        connect = min(self._settings.provider_connect_seconds, left)
        return httpx.Timeout(connect=connect, read=left, write=left, pool=connect)


@dataclass(slots=True)
class _Call:
    deadline: float
    on_text: Callable[[str], None] | None
    given_up: bool = False
    began: float = 0.0

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    def left(self) -> float:
        return max(self.deadline - time.monotonic(), 0.001)

    def elapsed_ms(self) -> int:
        return round((time.monotonic() - self.began) * 1000)

    def hand_over(self, text: str) -> None:
        self.check()
        if self.on_text is None:
            return
        try:
            self.on_text(text)
        except Exception:
            # Whoever listens has gone; the answer is still paid for, read to its end and reported.
            log.exception("a piece of an answer could not be handed over; no more will be")
            self.on_text = None

    def check(self) -> None:
        if self.given_up or time.monotonic() > self.deadline:
            raise ProviderTimeout("the answer did not end in time")


def _read(response: httpx.Response, call: _Call) -> ChatAnswer:
    """Raises ValueError for what is no completion."""
    streamed = response.headers.get("content-type", "").startswith("text/event-stream")
    if call.on_text and streamed:
        return read_stream(_lines(response, call), call.hand_over)
    answer = read_answer(b"".join(_pieces(response, call)))
    # Some providers answer whole although asked to stream.
    if answer.text:
        call.hand_over(answer.text)
    return answer


def _pieces(response: httpx.Response, call: _Call) -> Iterator[bytes]:
    size = 0
    for piece in response.iter_bytes():
        call.check()
        size += len(piece)
        if size > _TOO_MUCH:
            raise ValueError("the answer is too large")
        yield piece


def _lines(response: httpx.Response, call: _Call) -> Iterator[bytes]:
    rest = b""
    for piece in _pieces(response, call):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest


def _raise_for(response: httpx.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    detail = f"status {status}"
    if status == 429:
        raise RateLimited(detail, _retry_after(response.headers.get("retry-after")))
    if status in (401, 403):
        raise ProviderRefusedKey(detail)
    if status in (408, 504):
        raise ProviderTimeout(detail)
    raise ProviderFailed(detail) if status >= 500 else ProviderRefused(detail)


def _retry_after(value: str | None) -> float | None:
    # The header's other form, a date, is not used by providers; what cannot be read is not known.
    try:
        seconds = float(Decimal(value or ""))
    except (ArithmeticError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER) if seconds == seconds else None
