"""Who fails to sign in too often is locked out for a while: what django-axes asks us (docs/security.md says why)."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_network
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt, AccessLog
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import salted_hmac

from catalog.proxies import parse

Credentials = Mapping[str, Any] | None

#: How long sign-ins are kept: to look at, and as the addresses that a name is known at.
SIGN_INS_KEPT = timedelta(days=90)


class LockoutHandler(AxesDatabaseHandler):
    """Locks a name at an address; and, ten times later, a name everywhere but where it signed in from before."""

    def get_failures(self, request: HttpRequest, credentials: Credentials = None) -> int:
        """axes locks when this reaches AXES_FAILURE_LIMIT."""
        rows, limit = _counted(request, credentials, timezone.now())
        failures = _sum(rows)
        return max(failures, settings.AXES_FAILURE_LIMIT) if failures >= limit else failures


def _counted(
    request: HttpRequest, credentials: Credentials, now: datetime
) -> tuple[QuerySet[AccessAttempt], int]:
    """The failures that count against this attempt, and how many are too many."""
    name, address = name_to_keep(request, credentials), address_to_keep(request)
    everywhere = AccessAttempt.objects.filter(
        username=name, attempt_time__gte=now - settings.AXES_COOLOFF_TIME
    )
    here = everywhere.filter(ip_address=address)
    if (
        _sum(here) < settings.AXES_FAILURE_LIMIT
        and _sum(everywhere) >= settings.LOGIN_FAILURES_PER_NAME
        and not _known(name, address, now)
    ):
        return everywhere, settings.LOGIN_FAILURES_PER_NAME
    return here, settings.AXES_FAILURE_LIMIT


def _sum(rows: QuerySet[AccessAttempt]) -> int:
    return rows.aggregate(failures=Sum("failures_since_start"))["failures"] or 0


def _known(name: str | None, address: str | None, now: datetime) -> bool:
    """Whether somebody of this name signed in from there before. Else a stranger's 50 failures would keep a person
    out of their own office."""
    since = now - SIGN_INS_KEPT
    made = AccessLog.objects.filter(username=name, ip_address=address, attempt_time__gte=since)
    return bool(made.exists())


def locked_until(request: HttpRequest, credentials: Credentials, now: datetime) -> datetime:
    """When enough failures will be old enough; UTC."""
    rows, limit = _counted(request, credentials, now)
    left, until = _sum(rows), now
    for row in rows.order_by("attempt_time"):
        if left < limit:
            break
        left -= row.failures_since_start
        until = row.attempt_time + settings.AXES_COOLOFF_TIME
    return until


def locked_out(request: HttpRequest, _: HttpResponse, credentials: Credentials) -> HttpResponse:
    """The page that stands in for the login page's answer."""
    now = timezone.now()
    until = locked_until(request, credentials, now)
    seconds = max(1, math.ceil((until - now).total_seconds()))
    context = {
        **admin.site.each_context(request),
        "title": "Locked out",
        "until": until,
        "minutes": math.ceil(seconds / 60),
    }
    answer = render(request, "admin/locked_out.html", context, status=429)
    answer["Retry-After"] = str(seconds)
    return answer


def name_to_keep(request: HttpRequest, credentials: Credentials) -> str | None:
    """The name that failures are kept under. A name that nobody has may be a password in the wrong field, so only
    its fingerprint is kept."""
    name = credentials.get("username") if credentials else request.POST.get("username")
    if name is None or User.objects.filter(username=name).exists():
        return name
    return f"unknown-{salted_hmac(__name__, name, algorithm='sha256').hexdigest()[:16]}"


def address_to_keep(request: HttpRequest) -> str | None:
    """The client's address; of an IPv6 one its network of 64 bits, all of which is one client's."""
    address = parse(request.META.get("REMOTE_ADDR", ""))
    if isinstance(address, IPv6Address) and address.is_global:
        address = ip_network((address, 64), strict=False).network_address
    return str(address) if address else None


def told_in_logs(name: str | None, address: str | None, *_: Any) -> str:
    """Who failed, in a line of the log."""
    return f"{name} from {address}"
