"""The demo's catalogue: three tenants, four personas, fourteen profiles with their real prices."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from catalog.models import ModelProfile, Persona, PriceRevision, Tenant
from demo.outcomes import pool, slug
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag

TENANTS = {"aurora": "Aurora Learning", "borealis": "Borealis Support", "cumulus": "Cumulus Labs"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A provider's offer. Prices are US dollars per million tokens, those of the recorded calls
    (recovered from recorded tokens and costs; exact but for DeepSeek V3.2, whose price had changed)."""

    provider: str
    base_url: str
    prompt_per_1m: str
    completion_per_1m: str
    context_window: int


_OPENAI = ("openai", "https://api.openai.com/v1")
_ANTHROPIC = ("anthropic", "https://api.anthropic.com/v1")
_GOOGLE = ("google", "https://generativelanguage.googleapis.com/v1beta/openai")
_OPENROUTER = ("openrouter", "https://openrouter.ai/api/v1")

LISTINGS = {
    "GPT-5.5": Listing(*_OPENAI, "5", "30", 400_000),
    "GPT-5.4": Listing(*_OPENAI, "5", "15", 400_000),
    "GPT-5.4 Mini": Listing(*_OPENAI, "0.5", "1.5", 400_000),
    "GPT-4.1 Mini": Listing(*_OPENAI, "0.4", "1.6", 1_000_000),
    "Claude Opus 4.8": Listing(*_ANTHROPIC, "5", "25", 200_000),
    "Claude Sonnet 4.6": Listing(*_ANTHROPIC, "3", "15", 200_000),
    "Claude Haiku 4.5": Listing(*_ANTHROPIC, "1", "5", 200_000),
    "Gemini 2.5 Pro": Listing(*_GOOGLE, "1.25", "10", 1_000_000),
    "Gemini 2.5 Flash": Listing(*_GOOGLE, "0.3", "2.5", 1_000_000),
    "Gemini 2.5 Flash Lite": Listing(*_GOOGLE, "0.1", "0.4", 1_000_000),
    "DeepSeek V3.2": Listing(*_OPENROUTER, "0.2574", "1.0287", 128_000),
    "Llama 3.3 70B": Listing(*_OPENROUTER, "0.1", "0.32", 128_000),
    "Mistral Small 4": Listing("mistral", "https://api.mistral.ai/v1", "0.15", "0.6", 128_000),
    "GPT-OSS 120B": Listing(*_OPENROUTER, "0.036", "0.18", 128_000),
}

#: SLAs that the recorded outcomes can meet: a success there is a quality of 8.0 to 8.5 out of 10.
PERSONAS = {
    "essayist": {
        "name": "Essayist",
        "default": "GPT-5.4",
        "min_success_rate": "0.65",
        "max_latency_p95_ms": 90_000,
        "max_safety_violation_rate": "0.05",
    },
    "support-agent": {
        "name": "Support agent",
        "default": "Claude Opus 4.8",
        "min_success_rate": "0.50",
        "max_latency_p95_ms": 30_000,
        "max_safety_violation_rate": "0.15",
    },
    "coder": {
        "name": "Coder",
        "default": "GPT-5.4",
        "min_success_rate": "0.60",
        "max_latency_p95_ms": 120_000,
        "max_safety_violation_rate": "0.05",
    },
    "analyst": {
        "name": "Analyst",
        "default": "GPT-5.4",
        "min_success_rate": "0.60",
        "max_latency_p95_ms": 60_000,
        "max_safety_violation_rate": "0.05",
    },
}

#: Ten times the usual 2%: the savings ledger compares 30 held-out conversations at the least, and nobody watches a demo
#: for the hours that these would take.
HOLDOUT_SHARE = Decimal("0.2")

_PRICED_FROM = datetime(2026, 1, 1, tzinfo=UTC)


@transaction.atomic
def load_catalogue() -> bool:
    """Make what is missing; nothing that exists is changed. Returns whether anything was made."""
    made = [
        Tenant.objects.get_or_create(slug=key, defaults={"name": name})[1] for key, name in TENANTS.items()
    ]
    made += [_profile(model) for model in pool()]
    for key, persona in PERSONAS.items():
        fields: dict[str, Any] = {name: value for name, value in persona.items() if name != "default"}
        default = ModelProfile.objects.get(slug=slug(str(persona["default"])))
        fields |= {"default_profile": default, "holdout_share": HOLDOUT_SHARE}
        made.append(Persona.objects.get_or_create(slug=key, defaults=fields)[1])
    return any(made)


def _profile(model: str) -> bool:
    listing = LISTINGS[model]
    profile, made = ModelProfile.objects.get_or_create(
        slug=slug(model),
        defaults={
            "name": model,
            "provider": listing.provider,
            "model": slug(model),
            "base_url": listing.base_url,
            "context_window": listing.context_window,
        },
    )
    if made:
        PriceRevision.objects.create(
            profile=profile,
            valid_from=_PRICED_FROM,
            prompt_per_1k=Decimal(listing.prompt_per_1m) / 1000,
            completion_per_1k=Decimal(listing.completion_per_1m) / 1000,
        )
    return made


def turn_on() -> None:
    """Turn automatic selection on for every conversation of the demo."""
    flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    flag.rollout_percent = Decimal(100)
    flag.everyone = None
    flag.save()
