"""One stored decision, explained: a page of its own to link to, and a panel below the decision in a list."""

import uuid
from datetime import datetime
from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from catalog.access import Caller
from catalog.tenancy import within
from commandcenter.candidates import rows_of, weights_of
from commandcenter.shell import is_fragment, page, render
from routing.archive import DamagedArchiveError, NotArchivedError, archive
from routing.engine import Bundle
from routing.explaining import explained
from routing.models import Selection


@require_GET
@page
def selection(request: HttpRequest, who: Caller, decision_id: uuid.UUID) -> HttpResponse:
    """A foreign tenant's is not there."""
    row = within(Selection.objects.all(), who.tenants).filter(decision_id=decision_id).first()
    if row is None:
        raise Http404("There is no such selection that you may see.")
    told = explained(row)
    bundle = _archived(told["bundle_version"])
    scores = bundle.scores(row.tenant, row.persona) if bundle else None
    context = {
        "title": f"Decision {str(row.decision_id)[:8]}",
        "row": row,
        "told": told,
        "rows": rows_of(told["candidates"], weights_of(scores), row.profile),
        "metrics_age": _age(told),
        "snapshot_at": bundle.snapshot.created_at if bundle and bundle.snapshot else None,
        "flag_share": bundle.flag.share(row.tenant, row.persona) if bundle else None,
        "as_json": as_json(told),
        "is_replayed": told["replay"]["verdict"] == Selection.Replay.EQUAL.value,
    }
    template = "center/selection_panel.html" if is_fragment(request) else "center/selection.html"
    return render(request, who, template, context)


def as_json(told: dict[str, Any]) -> str:
    """For people who paste it into a ticket."""
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()


def _age(told: dict[str, Any]) -> float | None:
    """How old the metrics were when it was decided, in milliseconds; None: there were none."""
    if told["as_of"] is None:
        return None
    passed = datetime.fromisoformat(told["decided_at"]) - datetime.fromisoformat(told["as_of"])
    return passed.total_seconds() * 1000


def _archived(version: str) -> Bundle | None:
    """The policy that decided; None: it is not kept any more, or damaged, which the replay tells."""
    try:
        return archive.bundle(version)
    except (NotArchivedError, DamagedArchiveError):
        return None
