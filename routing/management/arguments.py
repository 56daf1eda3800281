"""Options that the commands share: what is wanted of a policy, and a time range."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone

from catalog.models import Persona, Tenant
from routing.logged.scope import Scope, Span
from routing.replaying.live import persona_of

#: Option, the persona's field, and what it is.
_CHANGES = (
    ("min-success", "min_success_rate", "SLA: the least success rate, 0 to 1"),
    ("max-safety", "max_safety_violation_rate", "SLA: the largest safety violation rate, 0 to 1"),
    ("min-accuracy", "min_accuracy", "SLA: the least mean score, 0 to 1"),
    ("max-cost", "max_cost_per_completion", "US dollars per completion, the yardstick of cost"),
    ("confidence", "confidence", "of the bounds that the SLA is judged by, 0.5 to 0.9999"),
    ("exploration", "exploration_share", "share of conversations that may try an unproven model, 0 to 1"),
)
_WEIGHTS = ("weight_cost", "weight_success", "weight_latency")


def add_policy_arguments(parser: ArgumentParser) -> None:
    """What may be changed of a persona's policy; ``changes_of`` reads it."""
    for option, field, told in _CHANGES:
        parser.add_argument(f"--{option}", dest=field, type=decimal, help=told)
    parser.add_argument("--max-p95-ms", dest="max_latency_p95_ms", type=int, help="SLA: milliseconds")
    parser.add_argument("--min-samples", dest="min_samples", type=int, help="fewer prove nothing")
    parser.add_argument("--weights", type=weights, help="cost,success,latency; they sum to 1")


def changes_of(options: dict[str, Any]) -> dict[str, Decimal | int]:
    """The persona's fields that options of ``add_policy_arguments`` change."""
    fields = [*(field for _, field, _ in _CHANGES), "max_latency_p95_ms", "min_samples"]
    changes = {field: options[field] for field in fields if options[field] is not None}
    if options["weights"]:
        changes |= dict(zip(_WEIGHTS, options["weights"], strict=True))
    return changes


def changed_persona(slug: str | None, options: dict[str, Any]) -> Persona:
    """The live persona (None: a new one) with these changes, not saved. Raises CommandError."""
    try:
        return persona_of(slug, changes_of(options))
    except Persona.DoesNotExist:
        raise CommandError(f"There is no persona '{slug}'.") from None
    except ValueError as error:
        raise CommandError(str(error)) from None


def add_range_arguments(parser: ArgumentParser) -> None:
    """--from and --to; ``span_of`` reads them."""
    parser.add_argument(
        "--from", dest="start", type=moment, metavar="TIME", help="ISO 8601, UTC unless it says so"
    )
    parser.add_argument("--to", dest="end", type=moment, metavar="TIME", help="before this; default: now")


def span_of(options: dict[str, Any]) -> Span:
    """Raises CommandError for a range that is not there, or the wrong way round."""
    if options["start"] is None:
        raise CommandError("Say since when: --from TIME, for example --from 2026-11-01.")
    try:
        # Spans are cut to whole seconds, and what has just happened shall lie within.
        return Span.of(options["start"], options["end"] or timezone.now() + timedelta(seconds=1))
    except ValueError:
        raise CommandError("--from must be before --to.") from None


def scope_of(options: dict[str, Any]) -> Scope:
    """--tenant and --persona. Raises CommandError when one is missing, or not in the catalogue."""
    tenant, persona = options["tenant"], options["persona"]
    if tenant is None or persona is None:
        raise CommandError("Name the scope: --tenant and --persona.")
    if not Tenant.objects.filter(slug=tenant).exists():
        raise CommandError(f"There is no tenant '{tenant}'.")
    if not Persona.objects.filter(slug=persona).exists():
        raise CommandError(f"There is no persona '{persona}'.")
    return Scope(tenant, persona)


def moment(text: str) -> datetime:
    """An ISO 8601 date or time, as UTC; that of no zone is UTC's."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is no ISO 8601 date or time, for example 2026-11-01T06:00"
        ) from None


def decimal(text: str) -> Decimal:
    """A finite number."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not value.is_finite():
        raise ArgumentTypeError(f"{text!r} is no number")
    return value


def weights(text: str) -> list[Decimal]:
    """Three numbers with commas between them."""
    found = [decimal(part) for part in text.split(",")]
    if len(found) != 3:
        raise ArgumentTypeError("three weights are wanted: cost,success,latency")
    return found


def count(least: int) -> Callable[[str], int]:
    """A parser of whole numbers, ``least`` or more."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
        return int(text)

    return parse


def points(text: str) -> float:
    """Percentage points, 0 to 100, as a share."""
    value = float(decimal(text)) / 100
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text!r} is not 0 to 100 points")
    return value
