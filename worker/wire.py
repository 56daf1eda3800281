"""HTTP to the selection service: bodies read against a deadline, problems read as such. Sync and async."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

_TOO_MUCH = 64 * 1024 * 1024
#: RuntimeError is how httpx says that the client was closed meanwhile.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError)
#: Our own host is never behind a proxy, whatever the environment says.
DIRECT: Mapping[str, None] = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,99}")


class NotAnswered(Exception):
    """The service gave no usable answer: not reached, too slow, broken, overloaded."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer of the service."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Raises NotAnswered: what is not JSON does not come from the service."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise NotAnswered(f"status {self.status}, but the body is not JSON") from None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the service (or the engine) gives no profile; ``status`` 0 is the client's own."""

    status: int
    code: str
    detail: str


def problem_of(reply: Reply) -> Problem:
    """The problem document; NotAnswered when the body is none, so not from the service."""
    document = reply.json()
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        raise NotAnswered(f"status {reply.status} without a problem document")
    return Problem(reply.status, document["code"], str(document.get("detail", ""))[:1000])


def headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Api-Key {api_key}", "User-Agent": "selection-worker"}


def named(request_id: str | None) -> dict[str, str]:
    """What the service's logs and answers call this request: by our id if it has one that can stand in a header, else
    the service makes one."""
    return {"X-Request-ID": request_id} if request_id and _NAME.fullmatch(request_id) else {}


def timeouts(connect: float, read: float) -> httpx.Timeout:
    """Seconds; a free connection is waited for as long as a new one."""
    return httpx.Timeout(connect=connect, read=read, write=read, pool=connect)


def exchange(client: httpx.Client, request: httpx.Request, seconds: float) -> Reply:
    """Send and read all of the answer, at most about ``seconds`` and one read more; NotAnswered otherwise."""
    deadline = time.monotonic() + seconds
    try:
        response = client.send(request, stream=True)
        try:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                _check(body, deadline)
        finally:
            response.close()
    except _FAILURES as error:
        raise NotAnswered(_named(error)) from None
    return _reply(response, bytes(body))


async def exchange_async(client: httpx.AsyncClient, request: httpx.Request) -> Reply:
    """As ``exchange``; the caller bounds its time by cancelling."""
    try:
        response = await client.send(request)
    except _FAILURES as error:
        raise NotAnswered(_named(error)) from None
    return _reply(response, response.content)


def _check(body: bytearray, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise NotAnswered("the answer did not end in time")
    if len(body) > _TOO_MUCH:
        raise NotAnswered("the answer is too large")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _reply(response: httpx.Response, body: bytes) -> Reply:
    # Overload and failures are not answers: what to do instead is the same as for silence.
    if response.status_code in (408, 429) or response.status_code >= 500:
        raise NotAnswered(f"status {response.status_code}")
    return Reply(response.status_code, response.headers, body)
