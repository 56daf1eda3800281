"""Recorded outcomes for the replay's tests; a test names only what matters to it."""

import random
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from routing.replaying.outcomes import Conversation, Outcome, Recording, record
from routing.rules import ScoringRules, Sla

#: One sample proves: with confidence 0.5 the bounds are the averages themselves.
TRUSTING = ScoringRules(Sla(0.5, 10_000, 1.0), confidence=0.5, min_samples=1)


def call(prompt_id: str = "p", model: str = "m", **fields: Any) -> Outcome:
    values: dict[str, Any] = {
        "category": "essay",
        "success": True,
        "prompt_tokens": 100,
        "completion_tokens": 100,
        "cost_usd": Decimal("0.01"),
        "latency_ms": 1000,
        "score": 0.9,
        "runs": 1,
        "recorded_on": "2026-05-01T00:00:00+00:00",
        "error": False,
    }
    return Outcome(prompt_id=prompt_id, model=model, **{**values, **fields})


def talk(prompt_id: str, outcomes: Mapping[str, Outcome]) -> Conversation:
    return Conversation(prompt_id, "essay", "2026-05-01", outcomes)


def talks(calls: Sequence[Outcome]) -> tuple[Conversation, ...]:
    return record(calls).conversations


def at_random(conversations: int, models: Sequence[str], seed: int = 0) -> Recording:
    """Every model succeeds, costs and lasts as chance has it, about a mean of its own."""
    draw = random.Random(seed)
    calls = []
    for number in range(conversations):
        for rank, model in enumerate(models, 1):
            calls.append(
                call(
                    f"p{number:06d}",
                    model,
                    success=draw.random() < 0.55 + 0.4 * rank / len(models),
                    cost_usd=Decimal(draw.randint(rank * 100, rank * 300)) / 1_000_000,
                    latency_ms=draw.randint(200, 4000),
                    score=round(draw.random(), 3),
                )
            )
    return record(calls)
