"""What every page of the Command Center stands in: who looks, the header's state, fragments, conditional answers."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from catalog.access import Caller, person
from overrides.flags import AUTO_MODEL_SELECTION, FlagRow
from routing.bundle import current_bundle
from routing.engine import FlagState
from telemetry import freshness
from telemetry.freshness_state import Freshness

View = Callable[..., HttpResponse]


def page(view: View) -> View:
    """A page or fragment for people who may read. ``view`` gets the caller as its second argument."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        who = person(request.user)
        if "read" not in who.verbs:
            raise PermissionDenied("The Command Center takes a role: viewer, operator or admin.")
        return view(request, who, *args, **kwargs)

    return guarded


@dataclass(frozen=True, slots=True)
class State:
    """What the header says. ``killed``: tenants whose automatic selection is stopped, of those that one may see."""

    mode: str
    flag: str
    flag_is_on: bool
    killed_all: bool
    killed: tuple[str, ...]
    freshness: str
    as_of: datetime | None
    cause: str | None

    @property
    def is_stale(self) -> bool:
        return self.freshness in (Freshness.STALE.value, Freshness.BLIND.value)


_CAUSES = {
    freshness.Cause.CLICKHOUSE_DOWN: "ClickHouse is down",
    freshness.Cause.DRAIN_LATE: "accepted events wait to be written",
    freshness.Cause.ROLLUP_LATE: "roll-ups are late",
    freshness.Cause.NO_TRAFFIC: "there is no traffic",
}


def state_of(who: Caller, now: datetime) -> State:
    """A handful of small queries; none on ClickHouse."""
    # What decides in this process, and what was read already to show anything at all.
    bundle = current_bundle()
    flag, standing = bundle.flag, bundle.standing
    scopes = freshness.read_scopes(now, who.tenants)
    overall = freshness.overall(scopes, now)
    late = overall is not Freshness.FRESH
    return State(
        mode=settings.MODE.value,
        flag=flag_sentence(flag),
        flag_is_on=flag.everyone is not False
        and bool(
            flag.everyone
            or flag.percent
            or any(flag.tenants.values())
            or any(any(shares.values()) for shares in flag.scopes.values())
        ),
        killed_all=standing.killed_all,
        killed=tuple(sorted(filter(who.may_see, standing.killed))),
        freshness=overall.value,
        as_of=max((scope.as_of for scope in scopes), default=None),
        cause=_CAUSES[freshness.read_pipeline().cause(now)] if late else None,
    )


def flag_sentence(flag: FlagRow | FlagState) -> str:
    """The flag in a few words: "on for everybody", "off", "5% of conversations"."""
    if flag.everyone is not None:
        return "on for everybody" if flag.everyone else "off"
    tenants = len({*flag.tenants, *flag.scopes})
    named = (
        "1 tenant with a share of its own" if tenants == 1 else f"{tenants} tenants with a share of their own"
    )
    own = f", {named}" if tenants else ""
    if flag.percent == 0:
        return f"off{own}"
    return f"{flag.percent:g}% of conversations{own}"


def render(
    request: HttpRequest, who: Caller, template: str, context: dict[str, Any] | None = None, status: int = 200
) -> TemplateResponse:
    """A whole page, or (asked by htmx, unless it restores its history) whatever fragment the template is."""
    now = timezone.now()
    base = {
        **admin.site.each_context(request),
        "who": who,
        "now": now,
        "flag_name": AUTO_MODEL_SELECTION,
    }
    if not is_fragment(request):
        base["state"] = state_of(who, now)
    answer = TemplateResponse(request, template, {**base, **(context or {})}, status=status)
    patch_vary_headers(answer, ["HX-Request"])
    # A page shows who did what: no cache between keeps it, and the browser asks again.
    answer["Cache-Control"] = "private, no-cache"
    return answer


def is_fragment(request: Any) -> bool:
    """Whether htmx asks for a part of the page. A history restore asks for all of it."""
    return bool(request.htmx) and not request.htmx.history_restore_request


def conditional(request: HttpRequest, answer: TemplateResponse, *seen: Any) -> HttpResponse:
    """304 when the fragment is what the browser has. ``seen``: what it depends on, if that is known sooner."""
    answer.render()
    tag = hashlib.sha256(repr(seen).encode() if seen else answer.content).hexdigest()[:20]
    etag = f'"{tag}"'
    if request.headers.get("If-None-Match", "").removeprefix("W/") == etag:
        return HttpResponseNotModified(headers={"ETag": etag})
    answer["ETag"] = etag
    return answer


@page
def header(request: HttpRequest, who: Caller) -> HttpResponse:
    """The state in the header, again every few seconds."""
    now = timezone.now()
    state = state_of(who, now)
    return conditional(request, render(request, who, "center/_state.html", {"state": state}))
