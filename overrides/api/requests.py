"""Change requests over the API: what waits for a second person."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.access import caller
from catalog.problems import Problem
from catalog.serializers import StrictSerializer, TextField
from overrides import approvals, selectors
from overrides.api.base import (
    IF_MATCH,
    KEY,
    ChangeRequestSerializer,
    NewestFirst,
    ReasonSerializer,
    SettingsView,
    actor_of,
    may_change,
    respond,
    seen_version,
)
from overrides.api.overrides import WishSerializer
from overrides.changes import touched, wish_values
from overrides.foreign import seen
from overrides.models import ChangeRequest
from overrides.rights import VERB_OF
from overrides.services import Wish
from overrides.states import tag_of


class ChangeRequestQuery(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=ChangeRequest.State.choices, required=False)
    tenant = serializers.CharField(max_length=63, required=False)
    cursor = serializers.CharField(required=False)


class ChangeRequestsView(SettingsView):
    """Changes that wait, or waited, for approval, newest first."""

    @extend_schema(
        operation_id="list_change_requests",
        parameters=[ChangeRequestQuery],
        responses=ChangeRequestSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        query = ChangeRequestQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        asked = {name: value for name, value in query.validated_data.items() if name != "cursor"}
        pages = NewestFirst()
        found = selectors.change_requests(caller(request).tenants).filter(**asked)
        page = pages.paginate_queryset(found, request, view=self) or []
        return pages.get_paginated_response([_shown(request, item) for item in page])


class EditSerializer(StrictSerializer):
    wanted = serializers.JSONField(
        required=False, help_text="As in the request; left out: the same, of the object as it is now."
    )
    reason = TextField(min_length=10, max_length=500)


class ChangeRequestView(SettingsView):
    """One change request; edit it, which voids its approvals."""

    @property
    def verb(self) -> str:
        return "read"

    @extend_schema(operation_id="read_change_request", responses=ChangeRequestSerializer)
    def get(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        return Response(_shown(request, found), headers={"ETag": f'"{found.version}"'})

    @extend_schema(
        operation_id="edit_change_request",
        parameters=[IF_MATCH, KEY],
        request=EditSerializer,
        responses=ChangeRequestSerializer,
    )
    def patch(self, request: Request, pk: int) -> Response:
        found, version = _visible(request, pk), seen_version(request)
        asked = EditSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        _may_propose(request, found)
        wanted, reason = _wanted(request, found, asked.validated_data), asked.validated_data["reason"]

        def act() -> Any:
            edited = approvals.edit(pk, version, wanted, reason, actor_of(request), timezone.now())
            return 200, _shown(request, edited)

        return respond(request, act)


def _wanted(request: Request, found: ChangeRequest, asked: dict[str, Any]) -> dict[str, Any]:
    """What is wanted now, as strictly read as when it was proposed."""
    old: dict[str, Any] = dict(found.wanted)
    new = asked.get("wanted", old)
    if found.kind in ("override.create", "override.replace"):
        told = (
            {name: value for name, value in new.items() if name not in ("version", "reason")}
            if (isinstance(new, dict))
            else new
        )
        wish = WishSerializer(data={**told, "reason": asked["reason"]} if isinstance(told, dict) else told)
        wish.is_valid(raise_exception=True)
        may_change(request, "override", wish.validated_data["tenant"])
        return wish_values(Wish(**wish.validated_data)) | _refreshed(found)
    if "wanted" in asked and new != old:
        raise Problem(
            400,
            "invalid",
            f"Of a change of kind '{found.kind}' only the reason is edited: withdraw it and propose anew.",
        )
    return old | _refreshed(found)


def _refreshed(found: ChangeRequest) -> dict[str, Any]:
    """The object as it is now: its version, or its tag."""
    now = touched(approvals.change_of(found)).before or {}
    if "version" in found.wanted:
        return {"version": now["version"]}
    return {"seen": tag_of(now)} if "seen" in found.wanted else {}


class ApproveSerializer(StrictSerializer):
    diff_hash = TextField(max_length=64, help_text="Of the change as you saw it.")
    reason = TextField(min_length=10, max_length=500)


class ApproveView(SettingsView):
    """Say yes to somebody else's change, as it is now. It is made by ``apply``."""

    changing = "approve"

    @extend_schema(
        operation_id="approve_change_request",
        parameters=[KEY],
        request=ApproveSerializer,
        responses=ChangeRequestSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        if not _holds(request, "approve", found.tenant):
            raise Problem(
                403, "permission_denied", "This needs the verb 'approve' for the tenants that it is about."
            )
        asked = ApproveSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        told = asked.validated_data

        def act() -> Any:
            done = approvals.approve(pk, told["diff_hash"], told["reason"], actor_of(request), timezone.now())
            return 200, _shown(request, done)

        return respond(request, act)


class ApplySerializer(StrictSerializer):
    """Nothing is asked."""


class ApplyView(SettingsView):
    """Make an approved change."""

    @property
    def verb(self) -> str:
        return "read"

    @extend_schema(
        operation_id="apply_change_request",
        parameters=[KEY],
        request=ApplySerializer,
        responses=ChangeRequestSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        _may_propose(request, found)
        ApplySerializer(data=request.data).is_valid(raise_exception=True)

        def act() -> Any:
            done, _ = approvals.apply(pk, actor_of(request), timezone.now())
            return 200, _shown(request, done)

        return respond(request, act)


class RejectView(SettingsView):
    """Reject a change, or withdraw one's own."""

    @property
    def verb(self) -> str:
        return "read"

    @extend_schema(
        operation_id="reject_change_request",
        parameters=[KEY],
        request=ReasonSerializer,
        responses=ChangeRequestSerializer,
    )
    def post(self, request: Request, pk: int) -> Response:
        found = _visible(request, pk)
        if caller(request).name not in found.authors and not _holds(request, "approve", found.tenant):
            raise Problem(
                403, "permission_denied", "Its authors withdraw it, and who may approve it rejects it."
            )
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)

        def act() -> Any:
            done = approvals.close(pk, asked.validated_data["reason"], actor_of(request), timezone.now())
            return 200, _shown(request, done)

        return respond(request, act)


def _shown(request: Request, found: ChangeRequest) -> dict[str, Any]:
    told: dict[str, Any] = seen(approvals.describe(found), caller(request).tenants)
    return told


def _may_propose(request: Request, found: ChangeRequest) -> None:
    """What it takes to make the change takes it to edit or apply it."""
    verb = VERB_OF.get(found.kind.partition(".")[0], "catalogue")
    may_change(request, verb, found.tenant)


def _holds(request: Request, verb: str, tenant: str | None) -> bool:
    return caller(request).may(verb, tenant)


def _visible(request: Request, pk: int) -> ChangeRequest:
    found = selectors.change_requests(caller(request).tenants).filter(pk=pk).first()
    if found is None:
        raise Problem(
            404, "unknown_change_request", "There is no such change request that this caller may see."
        )
    return found
