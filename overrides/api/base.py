"""What the settings service's views share: who may change what, and how a change is answered."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.access import caller, visible_tenant
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides import approvals, changes, idempotency, services
from overrides.approvals import Refused
from overrides.audit import Actor
from overrides.changes import Change
from overrides.foreign import seen
from overrides.four_eyes import NeedsApproval, protected
from overrides.previewing import preview
from overrides.proposing import proposal_of
from overrides.services import Conflict, NotStanding
from overrides.settings import Changed, Missing

IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, required=True, description="The ETag you saw."
)
KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="Makes a repeat safe.")
DRY_RUN = OpenApiParameter(
    "dry_run", bool, description="1: change nothing, and tell what it would do (a Preview)."
)


class ReasonSerializer(StrictSerializer):
    reason = TextField(min_length=10, max_length=500)


class ChangeRequestSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField(help_text="What is changed, and how: override.create, persona, ...")
    target = serializers.CharField(help_text="The object's id or name; empty: a new one.")
    tenant = serializers.CharField(allow_null=True)
    wanted = serializers.DictField()
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField(allow_null=True)
    diff_hash = serializers.CharField(help_text="What an approval is for.")
    reason = serializers.CharField()
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    authors = serializers.ListField(
        child=serializers.CharField(), help_text="Who proposed or edited it: they may not approve it."
    )
    approved_by = serializers.ListField(
        child=serializers.CharField(), help_text="Whose approval counts for it as it is now."
    )
    state = serializers.CharField()
    version = serializers.IntegerField()
    closed_by = serializers.CharField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)


class PreviewSerializer(serializers.Serializer[Any]):
    dry_run = serializers.BooleanField()
    needs_approval = serializers.BooleanField(help_text="Four eyes: it would wait as a change request.")
    before = serializers.DictField(allow_null=True)
    after = serializers.DictField()
    preview = serializers.DictField(help_text="docs/overrides.md explains it.")


#: Besides what a view answers itself.
WAITS = {202: OpenApiResponse(ChangeRequestSerializer, "Four eyes: it waits for somebody's approval.")}


class NewestFirst(CursorPagination):
    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
    ordering = "-id"


class BySequence(NewestFirst):
    ordering = "-seq"


class SettingsView(APIView):
    """Reading takes the verb ``read``, changing the view's ``changing``."""

    changing = "override"

    @property
    def verb(self) -> str:
        return "read" if self.request.method in ("GET", "HEAD", "OPTIONS") else self.changing


def actor_of(request: Request) -> Actor:
    """Who asks, for the audit log."""
    who = caller(request)
    return Actor.asking(who.name, who.role, request)


def may_change(request: Request, verb: str, tenant: str | None) -> None:
    """A foreign tenant is a 404; a tenant that one only looks at, and what is for all tenants, takes a right."""
    who = caller(request)
    if tenant is not None:
        visible_tenant(request, tenant)
        if not who.may(verb, tenant):
            raise Problem(403, "permission_denied", f"This needs the verb '{verb}' for the tenant {tenant}.")
    elif not (who.may(verb, None) and who.may("global_scope", None)):
        raise Problem(
            403,
            "permission_denied",
            "A change for all tenants takes the verb 'global_scope', and a caller that is bound to none.",
        )


def seen_tag(request: Request) -> str:
    """The ETag that the caller saw."""
    tag = request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
    if not tag:
        raise Problem(
            428, "if_match_needed", "Send If-Match with the ETag that you saw, so that nobody is overwritten."
        )
    return tag


def seen_version(request: Request) -> int:
    """The version that the caller saw."""
    tag = seen_tag(request)
    if not tag.isdecimal() or len(tag) > 9:
        raise Problem(400, "invalid", 'If-Match: an ETag as this service gives it, such as "3".')
    return int(tag)


def respond(request: Request, act: Any) -> Response:
    """Act once per Idempotency-Key, with the services' refusals as problems. ``act`` gives status and body."""
    who = caller(request)
    seen = request.headers.get("If-Match")
    print_ = idempotency.fingerprint(request.method, request.get_full_path(), seen, request.data)
    key = request.headers.get("Idempotency-Key")
    status, body = guarded(request, lambda: idempotency.once(who.name, key, print_, timezone.now(), act))
    headers = {"ETag": f'"{body["version"]}"'} if "version" in body else {}
    return Response(body, status=status, headers=headers)


def guarded(request: Request, act: Any) -> Any:
    """What ``act`` gives; what the services refuse becomes a problem."""
    try:
        return act()
    except ValidationError as error:
        raise serializers.ValidationError(getattr(error, "message_dict", {"": error.messages})) from None
    except Conflict as conflict:
        shown = services.describe(conflict.current)
        raise _both(str(conflict), shown, request) from None
    except Changed as changed:
        raise _both(str(changed), seen(changed.current, caller(request).tenants), request) from None
    except NotStanding as error:
        raise Problem(409, "not_standing", str(error)) from None
    except Missing as error:
        raise Problem(404, "not_found", str(error)) from None
    except NeedsApproval as error:
        raise Problem(409, "needs_approval", str(error)) from None
    except Refused as error:
        known = approvals.describe(error.current) if error.current else None
        extra = {"current": seen(known, caller(request).tenants)} if known else {}
        raise Problem(409, error.code, str(error), **extra) from None


def _both(detail: str, current: dict[str, Any], request: Request) -> Problem:
    return Problem(409, "version_conflict", detail, current=current, yours=request.data)


def submit(request: Request, change: Change, status: int = 200, tell: Any = None) -> Response:
    """Make the change, propose it, or (``?dry_run=1``) tell what it would do. ``tell`` makes the state the answer."""
    if is_dry_run(request):
        return Response(_previewed(request, change))

    who = caller(request)

    def act() -> idempotency.Answer:
        outcome = approvals.submit(change, actor_of(request), timezone.now())
        if outcome.request is not None:
            return 202, seen(approvals.describe(outcome.request), who.tenants)
        after = outcome.after or {}
        return status, (tell(after) if tell else after)

    return respond(request, act)


def is_dry_run(request: Request) -> bool:
    asked = request.query_params.get("dry_run", "")
    if asked.lower() not in ("", "0", "1", "true", "false"):
        raise Problem(400, "invalid", "dry_run: 1 or 0.")
    return asked.lower() in ("1", "true")


def _previewed(request: Request, change: Change) -> dict[str, Any]:
    now, tenants = timezone.now(), caller(request).tenants

    def act() -> dict[str, Any]:
        about = changes.touched(change)
        after = changes.rehearse(change, actor_of(request), now)
        return {
            "dry_run": True,
            "needs_approval": waits(change, about),
            "before": seen(about.before, tenants),
            "after": seen(after if about.before is not None else {**after, "id": None}, tenants),
            "preview": preview(proposal_of(change, after), tenants, now),
        }

    told: dict[str, Any] = guarded(request, act)
    return told


def waits(change: Change, about: changes.Touched) -> bool:
    """Whether it would wait for approval. Stopping automatic selection never does."""
    stops = change.kind == "kill_switch" and change.wanted["on"]
    return not stops and protected(about.scopes) is not None
