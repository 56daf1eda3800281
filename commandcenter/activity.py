"""What was done lately, for the activity log beside the cards."""

from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse

from catalog.access import Caller
from commandcenter.shell import conditional, page, render
from overrides import selectors
from overrides.models import AuditEntry

_MOST = 12


def recent(who: Caller, most: int = _MOST) -> Sequence[AuditEntry]:
    """The newest entries of the audit log that concern the caller's tenants."""
    return list(selectors.audit_entries(who.tenants)[:most])


@page
def activity(request: HttpRequest, who: Caller) -> HttpResponse:
    """The log as a fragment, again every few seconds."""
    entries = recent(who)
    answer = render(request, who, "center/_activity.html", {"entries": entries})
    return conditional(request, answer, [entry.seq for entry in entries])
