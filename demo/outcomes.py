"""Recorded LLM outcomes of the demo's fourteen models (demo/data/README.md)."""

import csv
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_DATA = Path(__file__).parent / "data"

#: Which persona a recorded test's category belongs to; the category itself becomes the event's task.
PERSONA_OF = {
    "essay": "essayist",
    "writing_short": "essayist",
    "summarize_translate": "essayist",
    "support_ops": "support-agent",
    "safety_injection": "support-agent",
    "code": "coder",
    "function_calling": "coder",
    "structured": "coder",
    "reasoning": "analyst",
    "fact_check": "analyst",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One recorded call. ``cost_usd`` stays text, as recorded."""

    prompt_id: str
    category: str
    model: str
    success: bool
    prompt_tokens: int
    completion_tokens: int
    cost_usd: str
    latency_ms: int
    score: float
    error: str | None

    @property
    def persona(self) -> str:
        return PERSONA_OF[self.category]

    @property
    def profile(self) -> str:
        return slug(self.model)


def slug(model: str) -> str:
    """The profile's slug of a model's name: "GPT-5.4 Mini" -> "gpt-5.4-mini"."""
    return re.sub(r"[^a-z0-9.]+", "-", model.lower())


@cache
def pool() -> tuple[str, ...]:
    """The models of the demo, by name."""
    return tuple(line for line in (_DATA / "pool.txt").read_text().splitlines() if line)


@cache
def load() -> Sequence[Outcome]:
    """Every recorded outcome of the pool's models, in the file's order."""
    models = set(pool())
    with gzip.open(_DATA / "outcomes.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return tuple(_outcome(row) for row in csv.DictReader(file) if row["model"] in models)


def _outcome(row: dict[str, str]) -> Outcome:
    return Outcome(
        prompt_id=row["prompt_id"],
        category=row["category"],
        model=row["model"],
        success=row["success"] == "1",
        prompt_tokens=int(row["prompt_tokens"]),
        completion_tokens=int(row["completion_tokens"]),
        cost_usd=row["cost_usd"],
        latency_ms=int(row["latency_ms"]),
        score=float(row["score"]),
        error=None if row["outcome"] == "ok" else row["outcome"],
    )
