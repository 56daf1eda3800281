"""The first middleware: what every request gets, whatever becomes of it."""

import logging
import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import resolve

from observability import ids
from observability.tally import tally

log = logging.getLogger(__name__)

#: Asked by orchestrators, directly: by any address, without the proxy's HTTPS.
PROBES = frozenset({"/healthz", "/readyz"})
#: Nobody waits for so long gladly; which request it was is worth a line.
SLOW_SECONDS = 2.0
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_MODEL_PAGES = frozenset({"add", "change", "changelist", "delete", "history"})


class Requests:
    """Counts, times and names requests; answers probes before anything can refuse them for their host."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        name = ids.bind(request.META.get("HTTP_X_REQUEST_ID"))
        try:
            answer = self._answer(request)
            count_request(request.method, route_of(request), answer.status_code, time.perf_counter() - began)
        finally:
            ids.unbind()
        answer["X-Request-ID"] = name
        return answer

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in PROBES:
            request.resolver_match = resolve(request.path_info)
            answer: HttpResponseBase = request.resolver_match.func(request)
            return answer
        return self._get_response(request)


def count_request(method: str | None, route: str, status: int, seconds: float) -> None:
    """One answered request. ``route`` is one of our URL names. For whoever answers without this middleware, too."""
    tally.request(method if method in _METHODS else "other", route, status, seconds)
    if seconds > SLOW_SECONDS:
        log.warning("%s %s took %.1f s (status %d)", method, route, seconds, status)


def route_of(request: HttpRequest) -> str:
    """The name of the URL that answered; of the admin's pages of models only what kind of page it is."""
    match = request.resolver_match
    if match is None:
        return "none"
    name = match.view_name or "unnamed"
    kind = name.rpartition("_")[2]
    return f"admin:{kind}" if kind in _MODEL_PAGES and name.startswith("admin:") else name
