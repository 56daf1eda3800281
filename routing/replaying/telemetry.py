"""Completion events as recorded outcomes: a scope's own telemetry in place of a file."""

from collections.abc import Iterable

from routing.logged.completions import Completion
from routing.replaying.outcomes import Outcome


def outcomes_of(completions: Iterable[Completion]) -> list[Outcome]:
    """Each completion as an outcome: its conversation and task are the prompt, its task the category, its profile the
    model."""
    return [_outcome(completion) for completion in completions]


def _outcome(completion: Completion) -> Outcome:
    cost, score = completion.cost_usd, completion.accuracy
    return Outcome(
        # A task is a slug, so what stands before the first space is the task and nothing else.
        prompt_id=f"{completion.task} {completion.conversation_id}",
        category=completion.task,
        model=completion.profile,
        success=completion.success,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        # Stored with nine decimals; as told, sums read as they do from a file.
        cost_usd=None if cost is None else cost.normalize(),
        latency_ms=completion.latency_ms,
        score=None if score is None else float(score),
        runs=1,
        recorded_on=completion.occurred_at.isoformat(),
        error=completion.error_code is not None,
        violated=completion.safety_violation,
    )
