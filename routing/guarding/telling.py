"""Rollouts as the API, the pages and the command show them."""

from typing import Any

from routing.guarding.models import Rollout, RolloutStep
from routing.guarding.services import describe


def told(rollout: Rollout, history: bool = False) -> dict[str, Any]:
    """JSON values: the rollout, what was last found of its step, and (``history``) the steps of all attempts."""
    look: dict[str, Any] = dict(rollout.look or {})
    verdict = look.get("verdict")
    state = describe(rollout) | {
        "looked_at": rollout.looked_at.isoformat() if rollout.looked_at else None,
        "evidence_at": look.get("at"),
        "newest_completion": look.get("newest"),
        "verdict": verdict,
        "waits_for": waits_for(rollout),
    }
    if history:
        state["steps"] = [told_step(step) for step in rollout.steps.all()]
    return state


def waits_for(rollout: Rollout) -> list[str]:
    """What it needs before it goes on, a phrase each; a rollout that is not running waits for a person."""
    if rollout.state in (Rollout.State.PAUSED, Rollout.State.ROLLED_BACK):
        return ["a person to resume or cancel it"]
    if rollout.state != Rollout.State.RUNNING:
        return []
    look: dict[str, Any] = dict(rollout.look or {})
    verdict = look.get("verdict") or {}
    waits = [*look.get("holds", ()), *verdict.get("waits_for", ())]
    return waits if rollout.looked_at else ["the first look at its evidence, within a minute"]


def told_step(step: RolloutStep) -> dict[str, Any]:
    return {
        "attempt": step.attempt,
        "index": step.index,
        "percent": float(step.percent),
        "began_at": step.began_at.isoformat(),
        "ended_at": step.ended_at.isoformat() if step.ended_at else None,
        "ended_as": step.ended_as or None,
        "verdict": step.verdict,
    }
