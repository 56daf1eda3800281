"""Errors of the API as RFC 9457 problem details (application/problem+json)."""

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from catalog.outage import AWAY
from observability import ids

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class Problem(exceptions.APIException):
    """An error with a stable code that callers can branch on; ``extra`` members join the body."""

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.problem_code = code
        self.extra = extra


def body(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """The problem document: type (a relative reference to docs/api.md), title, status, code, detail."""
    return {
        "type": f"/problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **extra,
    }


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: every API error in one form. Unknown exceptions stay 500s and are logged by Django."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, AWAY):
        log.error("the database is away: %s", error)  # one line: the trace says nothing more
        error = Problem(503, "database_unavailable", "The database cannot be asked now. Try again soon.")
    if not isinstance(error, exceptions.APIException):
        return None
    headers = {}
    if header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = header
    if (wait := getattr(error, "wait", None)) is not None:
        headers["Retry-After"] = str(int(wait))
    described = {**_describe(error), **_named()}
    return Response(described, status=error.status_code, headers=headers, content_type=CONTENT_TYPE)


def _named() -> dict[str, str]:
    """The request's id: who reports an error can say which one, and the logs have it."""
    return {"request_id": name} if (name := ids.current()) is not None else {}


def _describe(error: exceptions.APIException) -> dict[str, Any]:
    if isinstance(error, Problem):
        return body(error.status_code, error.problem_code, str(error.detail), **error.extra)
    if isinstance(error, exceptions.ValidationError):
        fields = error.detail if isinstance(error.detail, dict) else {"": error.detail}
        named = [f"{name}: {' '.join(map(str, _flat(messages)))}" for name, messages in fields.items()]
        return body(error.status_code, "invalid", "; ".join(named).removeprefix(": "), errors=error.detail)
    codes = error.get_codes()
    return body(error.status_code, codes if isinstance(codes, str) else "error", str(error.detail))


def _flat(messages: Any) -> list[Any]:
    if isinstance(messages, dict):
        return [item for value in messages.values() for item in _flat(value)]
    return list(messages) if isinstance(messages, list) else [messages]


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse | None:
    """A problem for unknown paths below /api/; None elsewhere, where people read pages."""
    if not request.path.startswith("/api/"):
        return None
    told = body(404, "not_found", "There is nothing at this address.", **_named())
    return JsonResponse(told, status=404, content_type=CONTENT_TYPE)
