"""The policy to replay: a persona's live one, or a new persona's defaults, with what the caller changes."""

from collections.abc import Mapping
from decimal import Decimal

from django.core.exceptions import ValidationError

from catalog.models import Persona
from routing.replaying.run import Feedback, Policy
from routing.snapshots import rules_of

#: Fields of a persona that a replay may change.
CHANGEABLE = (
    "min_success_rate",
    "max_latency_p95_ms",
    "max_safety_violation_rate",
    "min_accuracy",
    "max_cost_per_completion",
    "weight_cost",
    "weight_success",
    "weight_latency",
    "confidence",
    "min_samples",
    "exploration_share",
)


def persona_of(slug: str | None, changes: Mapping[str, Decimal | int]) -> Persona:
    """A persona that is not saved: the live one of this slug, or (None) one that holds only defaults, with
    ``changes`` of CHANGEABLE fields. Judged as the catalogue judges it.

    Raises Persona.DoesNotExist, and ValueError that names what is wrong.
    """
    persona = Persona() if slug is None else Persona.objects.select_related("default_profile").get(slug=slug)
    for field, value in changes.items():
        setattr(persona, field, value)
    others = [field.name for field in Persona._meta.fields if field.name not in CHANGEABLE]
    try:
        persona.clean_fields(exclude=others)
        persona.clean()
    except ValidationError as error:
        told = [f"{field}: {' '.join(sentences)}" for field, sentences in error.message_dict.items()]
        raise ValueError("; ".join(told)) from None
    return persona


def incumbent_of(persona: Persona, models: tuple[str, ...]) -> str | None:
    """The persona's default profile as the recording calls it: by name, model or slug; None: not recorded."""
    if persona._state.adding:  # it has defaults only, and a default profile is none of them
        return None
    profile = persona.default_profile
    return next((name for name in (profile.name, profile.model, profile.slug) if name in models), None)


def policy_of(persona: Persona, incumbent: str, feedback: Feedback, rescore_every: int) -> Policy:
    """The persona's rules and exploration share as the replay takes them."""
    return Policy(
        rules=rules_of(persona),
        incumbent=incumbent,
        exploration=float(persona.exploration_share),
        feedback=feedback,
        rescore_every=rescore_every,
    )
