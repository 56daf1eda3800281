"""Liveness: this process answers. Readiness, which asks the database, is routing's."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers at all; it reads nothing. Public. One that fails wants a restart, which is
    no cure for a database that is away: for that see ``/readyz``."""
    return HttpResponse(b"ok\n", content_type="text/plain; charset=utf-8")
