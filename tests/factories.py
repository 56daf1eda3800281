"""Small makers of valid things; a test names only what matters to it."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from catalog.models import ModelProfile, Persona, PriceRevision, ServiceKey, Tenant

#: A moment in the middle of a 5-minute bucket, an hour and a day.
NOW = datetime(2026, 11, 20, 12, 32, 30, tzinfo=UTC)


def tenant(slug: str = "aurora", **fields: Any) -> Tenant:
    return Tenant.objects.get_or_create(slug=slug, defaults={"name": slug.title(), **fields})[0]


def profile(slug: str = "gpt-5.4", **fields: Any) -> ModelProfile:
    defaults = {
        "name": slug,
        "provider": "openai",
        "model": slug,
        "base_url": "https://api.example.com/v1",
        "context_window": 128_000,
    }
    return ModelProfile.objects.get_or_create(slug=slug, defaults={**defaults, **fields})[0]


def persona(slug: str = "essayist", **fields: Any) -> Persona:
    defaults = {
        "name": slug.title(),
        "min_success_rate": Decimal("0.6"),
        "max_latency_p95_ms": 60_000,
        "max_safety_violation_rate": Decimal("0.05"),
        # Shares would send some conversations elsewhere; tests of them ask for them.
        "exploration_share": Decimal(0),
        "holdout_share": Decimal(0),
    }
    if "default_profile" not in fields:
        fields["default_profile"] = profile()
    return Persona.objects.get_or_create(slug=slug, defaults={**defaults, **fields})[0]


def price(of: ModelProfile, prompt: str = "0.001", completion: str = "0.002", **fields: Any) -> PriceRevision:
    fields.setdefault("valid_from", datetime(2026, 1, 1, tzinfo=UTC))
    return PriceRevision.objects.create(
        profile=of, prompt_per_1k=Decimal(prompt), completion_per_1k=Decimal(completion), **fields
    )


def scope() -> None:
    """The scope that ``event`` reports for: aurora x essayist on gpt-5.4."""
    tenant()
    persona()


def key(*verbs: str, tenants: tuple[str, ...] = ("aurora",), **fields: Any) -> dict[str, str]:
    """The header of a new service key. No verbs: all of them; no tenants: all of them."""
    made: Any
    made, secret = ServiceKey.objects.create_key(
        name="test", verbs=list(verbs or ServiceKey.Verb.values), all_tenants=not tenants, **fields
    )
    made.tenants.set([tenant(slug) for slug in tenants])
    return {"Authorization": f"Api-Key {secret}"}


def event(**fields: Any) -> dict[str, Any]:
    """A valid completion event of ``scope``, as JSON values, with a new id."""
    return {
        "event_id": str(uuid.uuid4()),
        "occurred_at": NOW.isoformat(),
        "tenant": "aurora",
        "persona": "essayist",
        "profile": "gpt-5.4",
        "conversation_id": "conversation-1",
        "success": True,
        "latency_ms": 1200,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "cost_usd": "0.001",
        **fields,
    }


def told(answer: Any) -> dict[str, Any]:
    """A problem's body, but for the id of the request that it answers: what two problems have in common."""
    body: dict[str, Any] = answer.json()
    assert body.pop("request_id")
    return body
