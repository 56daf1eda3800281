"""The first middleware: what every request gets, whatever becomes of it."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import resolve

#: Asked by orchestrators, directly: by any address, without the proxy's HTTPS.
PROBES = frozenset({"/healthz", "/readyz"})


class Requests:
    """Answers probes before anything can refuse them for their host."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info in PROBES:
            answer: HttpResponseBase = resolve(request.path_info).func(request)
            return answer
        return self._get_response(request)
