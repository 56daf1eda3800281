"""A thin front for the one address that is asked for every conversation: ``POST /api/v1/selections``.

It answers plain requests that end well, by the same functions as the canonical view (routing.api.SelectionsView), and
before Django's handler, which costs twenty times what a decision does. Whatever is not plain, and whatever is refused,
it hands over as it came: every error is the view's own. The first plain request by each host is handed over, too, to
learn the headers of an answer. tests/config/test_front.py holds the two byte-equal. ADR 31 says why it is here.
"""

import re
import time
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

import orjson
from django.utils import timezone

from catalog.access import verify_header
from observability import ids
from observability.requests import count_request
from routing.repeats import Asked
from routing.selection import select

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
#: Host, scheme, and the scheme that a proxy tells: what the headers of an answer depend on.
Way = tuple[str, str, str]

PATH = "/api/v1/selections"
_MOST_BYTES = 65_536
_MOST_WAYS = 64
_ACCEPTED = frozenset({"", "*/*", "application/json"})
#: Any of these, and the canonical view looks at the request.
_UNUSUAL = ("QUERY_STRING", "SCRIPT_NAME", "HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING", "HTTP_COOKIE")
_OWN = frozenset({"content-length", "x-request-id"})

_MEMBERS = frozenset({"tenant", "persona", "conversation_id", "task", "exclude", "request_id", "candidates"})
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}").fullmatch
_CONVERSATION = re.compile(r"[^\x00-\x1f\x7f]{1,200}").fullmatch
_REQUEST_ID = re.compile(r"[^\x00-\x1f\x7f]{1,100}").fullmatch
_MOST_EXCLUDED = 50


class Front:
    """A WSGI application around Django's."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._headers: dict[Way, Headers] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH or environ["REQUEST_METHOD"] != "POST":
            return self._application(environ, start_response)
        began = time.perf_counter()
        way = way_of(environ)
        if way is None:
            return self._application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        # Whoever answers reads it from the start.
        environ["wsgi.input"] = BytesIO(body)
        headers = self._headers.get(way)
        if headers is None:
            return self._application(environ, self._learning(way, start_response))
        answer = self._answer(environ, body)
        if answer is None:
            return self._application(environ, start_response)
        name, told = answer
        count_request("POST", "selections", 200, time.perf_counter() - began)
        start_response("200 OK", [*headers, ("Content-Length", str(len(told))), ("X-Request-ID", name)])
        return [told]

    def _answer(self, environ: Environ, body: bytes) -> tuple[str, bytes] | None:
        """The request's name and the answer's body; None: it is not for the front to say."""
        parsed = parse(body)
        if parsed is None:
            return None
        asked, in_full = parsed
        caller = verify_header(environ.get("HTTP_AUTHORIZATION", ""))
        if caller is None or "select" not in caller.verbs or not caller.may_see(asked.tenant):
            return None
        name = ids.bind(environ.get("HTTP_X_REQUEST_ID"))
        try:
            answer = select(asked, caller.name, timezone.now())
            return name, answer.json if in_full else answer.core
        except Exception:  # noqa: BLE001  # the view meets it again, and tells of it in its way
            return None
        finally:
            ids.unbind()

    def _learning(self, way: Way, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: Headers, *rest: Any) -> Any:
            if status == "200 OK" and len(self._headers) < _MOST_WAYS:
                self._headers[way] = [(name, value) for name, value in headers if name.lower() not in _OWN]
            return start_response(status, headers, *rest)

        return start


def way_of(environ: Environ) -> Way | None:
    """How a plain request came; None: it is not plain."""
    get = environ.get
    length = get("CONTENT_LENGTH") or ""
    if get("CONTENT_TYPE") != "application/json" or not (length.isascii() and length.isdecimal()):
        return None
    if int(length[:6]) > _MOST_BYTES or len(length) > 6 or get("HTTP_ACCEPT", "") not in _ACCEPTED:
        return None
    for name in _UNUSUAL:
        if get(name):
            return None
    host = get("HTTP_HOST")
    return (host, get("wsgi.url_scheme", ""), get("HTTP_X_FORWARDED_PROTO", "")) if host else None


def parse(body: bytes) -> tuple[Asked, bool] | None:
    """What the view's serializer makes of a body that it takes as it is, and whether the candidates are wanted; None:
    it does not take it, or may not."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(told) is not dict or not told.keys() <= _MEMBERS:
        return None
    get: Callable[..., Any] = told.get
    tenant, persona, conversation, task = (
        get("tenant"),
        get("persona"),
        get("conversation_id"),
        get("task", "general"),
    )
    exclude, request_id, in_full = get("exclude", ()), get("request_id"), get("candidates", True)
    if not (
        _is(tenant, _SLUG) and _is(persona, _SLUG) and _is(conversation, _CONVERSATION) and _is(task, _SLUG)
    ):
        return None
    if type(in_full) is not bool or (request_id is not None and not _is(request_id, _REQUEST_ID)):
        return None
    if exclude != ():
        if (
            type(exclude) is not list
            or len(exclude) > _MOST_EXCLUDED
            or not all(_is(one, _SLUG) for one in exclude)
        ):
            return None
        exclude = tuple(sorted(set(exclude)))
    return Asked(tenant, persona, conversation, task, exclude, request_id), in_full


def _is(value: object, shape: Callable[[str], object]) -> bool:
    return type(value) is str and shape(value) is not None
