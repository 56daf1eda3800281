"""The completion event, v1: the outcome of one LLM call, validated alone and made a row.

The schema is frozen (telemetry/schemas/completion-event-v1.json, published by the API). A change of
meaning is a new version beside this one, never an edit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from catalog.directory import Directory
from catalog.prices import COST_STEP
from telemetry.histogram import bucket_of
from telemetry.served import is_other

SCHEMA_FILE = Path(__file__).parent / "schemas" / "completion-event-v1.json"
#: How far a sender's clock may run ahead.
FUTURE_TOLERANCE = timedelta(minutes=5)
#: How late an event may arrive over the API; older ones go through `manage.py ingest`.
LATEST = timedelta(hours=48)

_ACCURACY_STEP = Decimal("0.000001")


def _text_only(value: object) -> object:
    # Pydantic would read numbers as Unix seconds or milliseconds, whichever looks likely: no guessing.
    if not isinstance(value, str):
        raise ValueError("must be an ISO 8601 string with a zone")
    return value


def _amount(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number or a decimal string")
    return value


def _whole(value: object) -> object:
    # JSON has one kind of number: 1.0 is the integer 1 (and true is no number, whatever Python thinks).
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return int(value) if isinstance(value, float) and value.is_integer() else value


Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Identifier = Annotated[UUID, Field(strict=False), BeforeValidator(_text_only)]
Tokens = Annotated[int, Field(ge=0, le=10_000_000), BeforeValidator(_whole)]


class CompletionEvent(BaseModel):
    """Field by field as in the frozen schema; docs/telemetry.md explains each."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    event_id: Identifier
    occurred_at: Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text_only)]
    tenant: Slug
    persona: Slug
    profile: Slug
    conversation_id: Line
    decision_id: Identifier | None = None
    task: Slug = "general"
    success: bool
    error_code: Line | None = None
    latency_ms: Annotated[int, Field(ge=0, le=3_600_000), BeforeValidator(_whole)]
    prompt_tokens: Tokens
    completion_tokens: Tokens
    cached_tokens: Tokens | None = None
    cost_usd: (
        Annotated[
            Decimal, Field(strict=False, ge=0, le=100_000, allow_inf_nan=False), BeforeValidator(_amount)
        ]
        | None
    ) = None
    accuracy: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    escalated: bool = False
    safety_violation: bool = False
    served_model: Line | None = None
    schema_version: Annotated[Literal[1], BeforeValidator(_whole)] = 1


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why one event of a batch was not taken; ``index`` counts from 0 in the batch."""

    index: int
    code: str
    detail: str
    tenant: str | None = None


class Rejected(Exception):
    """Raised for one event; the batch goes on."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


#: The columns of a row, in the order of ``to_row``; ``received_us`` is added when the row is stored.
COLUMNS: Sequence[str] = (
    "event_id",
    "occurred_at",
    "tenant",
    "persona",
    "task",
    "profile",
    "conversation_id",
    "decision_id",
    "success",
    "error_code",
    "latency_ms",
    "latency_bucket",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost_usd",
    "cost_source",
    "accuracy",
    "escalated",
    "safety_violation",
    "served_model",
    "served_other",
    "schema_version",
)

Row = list[Any]


def parse(raw: object) -> CompletionEvent:
    """The event, or Rejected with the first few field errors spelled out."""
    if not isinstance(raw, dict):
        raise Rejected("not_an_object", f"An event is a JSON object, not {type(raw).__name__}.")
    try:
        return CompletionEvent.model_validate(raw)
    except ValidationError as error:
        raise Rejected("invalid_field", _explain(error)) from None


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    sentences = [
        f"{'.'.join(str(part) for part in problem['loc'][:1]) or 'event'}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in problems[:5]
    ]
    if len(problems) > 5:
        sentences.append(f"and {len(problems) - 5} more")
    # A hostile field name may hold anything, lone surrogates included.
    return "; ".join(sentences).encode("utf-8", "replace").decode()[:1000]


def check(
    event: CompletionEvent, names: Directory, now: datetime, tenants: frozenset[str] | None, oldest: datetime
) -> None:
    """Raise Rejected unless time and names hold. ``tenants`` None: all are allowed. A foreign tenant and
    one that does not exist read the same."""
    if event.occurred_at > now + FUTURE_TOLERANCE:
        raise Rejected("in_future", f"occurred_at: {event.occurred_at.isoformat()} is in the future.")
    if event.occurred_at < oldest:
        raise Rejected(
            "too_late", f"occurred_at: {event.occurred_at.isoformat()} is before {oldest.isoformat()}."
        )
    if event.tenant not in names.tenants or (tenants is not None and event.tenant not in tenants):
        raise Rejected(
            "unknown_tenant", f"tenant: there is no '{event.tenant}' that this caller may report for."
        )
    if event.persona not in names.personas:
        raise Rejected("unknown_persona", f"persona: there is no '{event.persona}'.")
    if event.profile not in names.profiles:
        raise Rejected("unknown_profile", f"profile: there is no '{event.profile}'.")
    if event.cached_tokens is not None and event.cached_tokens > event.prompt_tokens:
        raise Rejected("invalid_field", "cached_tokens: they are part of prompt_tokens, so never more.")


def to_row(event: CompletionEvent, names: Directory) -> Row:
    """The event as plain JSON values in the order of COLUMNS; the cost derived when absent and priced."""
    cost, source = _cost(event, names)
    accuracy = None
    if event.accuracy is not None:
        accuracy = str(Decimal(str(event.accuracy)).quantize(_ACCURACY_STEP, ROUND_HALF_EVEN))
    return [
        str(event.event_id),
        int(event.occurred_at.timestamp()),
        event.tenant,
        event.persona,
        event.task,
        event.profile,
        event.conversation_id,
        str(event.decision_id) if event.decision_id else None,
        int(event.success),
        event.error_code,
        event.latency_ms,
        bucket_of(event.latency_ms),
        event.prompt_tokens,
        event.completion_tokens,
        event.cached_tokens,
        cost,
        source,
        accuracy,
        int(event.escalated),
        int(event.safety_violation),
        event.served_model,
        int(is_other(names.models[event.profile], event.served_model)),
        event.schema_version,
    ]


def _cost(event: CompletionEvent, names: Directory) -> tuple[str | None, str | None]:
    """US dollars as text, and whether they were reported or derived; unknown is None, never 0."""
    if event.cost_usd is not None:
        return format(event.cost_usd.quantize(COST_STEP, ROUND_HALF_EVEN), "f"), "reported"
    price = names.prices.in_force(event.profile, event.occurred_at)
    if price is None:
        return None, None
    cost = price.cost(event.prompt_tokens, event.completion_tokens, event.cached_tokens)
    return format(cost, "f"), "derived"
