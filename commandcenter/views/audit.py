"""The audit log: filtered, expanded, verified, exported."""

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from catalog.access import Caller
from commandcenter import auditing, verifying
from commandcenter.diffs import difference, reader
from commandcenter.rights import missing
from commandcenter.shell import conditional, is_fragment, page, render
from overrides import exporting
from overrides.models import AuditEntry

ALL_TENANTS = "The chain goes over all tenants: this takes a role at all of them."
#: Entries that are no change of anything, or (a rollout's) are followed by an action of their own.
_NOT_UNDONE = {"change_request", "failed_sign_in", "rollout"}


@require_GET
@page
def audit(request: HttpRequest, who: Caller) -> HttpResponse:
    """The newest entries that match, each with its difference."""
    wanted = auditing.read(request.GET)
    found = auditing.Page([], None, None) if wanted.errors else auditing.page_of(wanted, who)
    status = 400 if wanted.errors else 200
    listed = {
        "wanted": wanted,
        "rows": [_row(entry, who) for entry in found.entries],
        "found": found,
    }
    if is_fragment(request):
        return render(request, who, "center/audit_rows.html", listed, status)
    context = {
        **listed,
        "title": "Audit log",
        "verbs": AuditEntry.Verb.values,
        "object_types": auditing.object_types(),
        "undo_actor_lacking": None if may_undo_any(who) else "This takes a right to change something.",
        **_verification(who),
    }
    return render(request, who, "center/audit.html", context, status)


def _row(entry: AuditEntry, who: Caller) -> dict[str, Any]:
    return {
        "entry": entry,
        "difference": difference(entry.before, entry.after, who.tenants),
        "may_not_undo": _may_not_undo(entry, who),
    }


def _may_not_undo(entry: AuditEntry, who: Caller) -> str | None:
    if entry.object_type in _NOT_UNDONE or entry.verb == AuditEntry.Verb.EXPIRE:
        return "This is no change that could be taken back."
    return missing(who, entry.object_type, entry.tenant)


def may_undo_any(who: Caller) -> bool:
    """Whether somebody may change anything at all."""
    return bool(who.verbs & {"override", "personas", "flags", "catalogue", "access"})


def _verification(who: Caller) -> dict[str, Any]:
    check, now = verifying.last_check(), timezone.now()
    return {
        "check": check,
        "check_is_lost": check is not None and check.is_lost(now),
        "signed": verifying.last_signed(),
        "may_not_verify": None if who.tenants is None else ALL_TENANTS,
    }


@require_http_methods(["GET", "POST"])
@page
def verify(request: HttpRequest, who: Caller) -> HttpResponse:
    """GET: how the last check went, or goes. POST: begin one, unless one is under way."""
    if request.method == "POST":
        if who.tenants is not None:
            raise PermissionDenied(ALL_TENANTS)
        verifying.start(who.name, timezone.now(), _enqueue)
    answer = render(request, who, "center/audit_verify.html", _verification(who))
    return answer if request.method == "POST" else conditional(request, answer)


def _enqueue(check_id: str, by: str) -> None:
    # Only now: most web processes never need Celery.
    from kombu.exceptions import OperationalError

    from commandcenter.tasks import verify_audit_log

    try:
        # Nobody waits for a broker that is away.
        verify_audit_log.apply_async((check_id, by), retry=False)
    except OperationalError as error:
        raise ConnectionError(str(error)) from error


@require_GET
@page
def export(request: HttpRequest, who: Caller) -> HttpResponse:
    """All entries that match, oldest first, as they are read."""
    wanted = auditing.read(request.GET)
    form = request.GET.get("format", "")
    if wanted.errors or form not in ("csv", "ndjson"):
        said = "; ".join(wanted.errors.values()) or "format: csv or ndjson."
        return HttpResponse(said, status=400, content_type="text/plain; charset=utf-8")
    write = exporting.csv_lines if form == "csv" else exporting.ndjson_lines
    lines: Iterator[str] = write(exporting.in_order(wanted.rows(who)), reader(who.tenants))
    kind = "text/csv" if form == "csv" else "application/x-ndjson"
    answer: Any = StreamingHttpResponse(lines, content_type=f"{kind}; charset=utf-8")
    name = f"audit-{timezone.now():%Y%m%dT%H%M%SZ}.{form}"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Cache-Control"] = "private, no-store"
    streamed: HttpResponse = answer
    return streamed
