"""Decisions that workers made by the policy bundle, as they report them: judged one by one, then committed."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from catalog.directory import Directory, directory
from observability.meters import meters
from routing.decision import decision_id
from routing.engine import Reason, SelectionRequest, canonical_json
from routing.models import Selection
from routing.records import record, row_of
from telemetry.events import FUTURE_TOLERANCE, LATEST, Line, Rejected, Rejection, Slug
from telemetry.freshness_state import Freshness

MAX_DECISIONS = 1_000
_MAX_BYTES = 20_000

_VERSION = re.compile(r"[0-9]{1,18}-[0-9a-f]{12}\.[0-9]{1,18}")


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _version(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("is no bundle version")
    return value


Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class ReportedProfile(_Strict):
    slug: Slug
    provider: Annotated[str, Field(max_length=60)]
    model: Annotated[str, Field(max_length=120)]
    base_url: Annotated[str, Field(max_length=300)]
    tier: Literal["llm", "slm", "micro"]
    context_window: Annotated[int, Field(ge=1)]


class ReportedOverrides(_Strict):
    applied: int | None
    excluding: Annotated[list[int], Field(max_length=200)]
    shadowed: Annotated[list[int], Field(max_length=200)]


class ReportedDecision(_Strict):
    """Member by member what ``Decision.core`` gives."""

    decision_id: Annotated[UUID, Field(strict=False), BeforeValidator(_text)]
    decided_at: Instant
    tenant: Slug
    persona: Slug
    task: Slug
    conversation_id: Line
    exclude: Annotated[list[Slug], Field(max_length=50)]
    last_profile: Slug | None
    request_id: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")] | None
    profile: ReportedProfile
    reason: Annotated[Reason, Field(strict=False)]
    explanation: Annotated[str, Field(max_length=2000)]
    candidates_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    fallback: Annotated[list[Slug], Field(max_length=500)]
    propensity: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    bundle_version: Annotated[str, AfterValidator(_version)]
    snapshot_id: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | None
    freshness: Annotated[Freshness, Field(strict=False)]
    as_of: Instant | None
    overrides: ReportedOverrides


def accept(
    items: Sequence[Any], caller: str, tenants: frozenset[str] | None, now: datetime
) -> tuple[int, list[Rejection]]:
    """Commit the good decisions; returns how many, and why the others were refused. One that is known
    already is accepted again and changes nothing. Whether each can be replayed is found when its event is
    made (``Selection.replay``)."""
    names = directory()
    rows: list[Selection] = []
    refused: list[Rejection] = []
    known = _known(items)
    for index, item in enumerate(items):
        try:
            _check(item, names, tenants, now)
            row = row_of(item, caller, Selection.Source.LOCAL, now)
            if known.setdefault(str(row.decision_id), row.core) != row.core:
                raise Rejected("conflict", "decision_id: this decision is known with other content.")
            rows.append(row)
        except Rejected as why:
            refused.append(Rejection(index, why.code, str(why)))
    if rows:
        record(rows)
        for row in rows:
            meters().decisions(row.reason, Selection.Source.LOCAL.value).inc()
    return len(rows), refused


def _known(items: Sequence[Any]) -> dict[str, str]:
    """What is stored of the decisions that these claim to be, by id."""
    ids = set()
    for item in items:
        try:
            ids.add(UUID(item["decision_id"]))
        except (TypeError, KeyError, ValueError, AttributeError):
            continue
    stored = Selection.objects.filter(decision_id__in=ids).values_list("decision_id", "core")
    return {str(decision_id): core for decision_id, core in stored}


def _check(item: Any, names: Directory, tenants: frozenset[str] | None, now: datetime) -> None:
    if not isinstance(item, dict):
        raise Rejected("not_an_object", "A decision is a JSON object.")
    try:
        told = ReportedDecision.model_validate(item)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        sentences = [
            f"{'.'.join(map(str, p['loc'])) or 'decision'}: {p['msg'].removeprefix('Value error, ')}"
            for p in problems[:5]
        ]
        detail = "; ".join(sentences).encode("utf-8", "replace").decode()[:1000]
        raise Rejected("invalid_field", detail) from None
    if len(canonical_json(item)) > _MAX_BYTES:
        raise Rejected("too_large", f"A decision is at most {_MAX_BYTES:,} bytes.")
    if told.tenant not in names.tenants or (tenants is not None and told.tenant not in tenants):
        raise Rejected(
            "unknown_tenant", f"tenant: there is no '{told.tenant}' that this caller may report for."
        )
    if told.persona not in names.personas:
        raise Rejected("unknown_persona", f"persona: there is no '{told.persona}'.")
    if told.profile.slug not in names.profiles:
        raise Rejected("unknown_profile", f"profile: there is no '{told.profile.slug}'.")
    if told.decided_at > now + FUTURE_TOLERANCE:
        raise Rejected("in_future", f"decided_at: {told.decided_at.isoformat()} is in the future.")
    if told.decided_at < now - LATEST:
        raise Rejected("too_late", f"decided_at: {told.decided_at.isoformat()} is over 48 hours ago.")
    if decision_id(told.bundle_version, SelectionRequest.from_dict(item).to_dict()) != item["decision_id"]:
        raise Rejected("invalid_field", "decision_id: it does not follow from the decision's content.")
