"""What a policy is set beside: baselines chosen on the training half alone, and the oracle, which knows all."""

import random
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from routing.replaying.outcomes import Conversation, Outcome
from routing.replaying.run import AT, Choice, fixed
from routing.replaying.seen import Seen
from routing.rules import Sla
from telemetry.totals import Totals

#: In the order of the report.
BASELINES = (
    "incumbent",
    "best-single",
    "cheapest-single",
    "cheapest-within-sla",
    "random",
    "oracle",
)


def baselines(
    models: Sequence[str],
    incumbent: str,
    sla: Sla,
    train: Iterable[Conversation],
    test: Sequence[Conversation],
    seed: str,
) -> dict[str, list[Choice]]:
    """Each baseline's choices for ``test``, by the names of ``BASELINES``."""
    seen = Seen(models)
    for conversation in train:
        seen.show(conversation.outcomes.values())
    figures = seen.totals(AT)
    singles = {
        "incumbent": incumbent,
        "best-single": best_single(figures, incumbent),
        "cheapest-single": cheapest_single(figures, incumbent),
        "cheapest-within-sla": cheapest_within_sla(figures, sla, incumbent),
    }
    draw = random.Random(seed)  # noqa: S311  # reproducible on purpose
    return {
        **{name: list(fixed(test, lambda _, m=model: m, name)) for name, model in singles.items()},  # type: ignore[misc]
        "random": list(fixed(test, lambda _: draw.choice(models), "random")),
        "oracle": list(fixed(test, oracle, "oracle")),
    }


def best_single(figures: Mapping[str, Totals], otherwise: str) -> str:
    """The model with the highest success rate; of equals the cheaper. ``otherwise``: nothing was seen."""
    known = [model for model, totals in figures.items() if totals.requests]
    return min(
        known, key=lambda m: (-(figures[m].success_rate or 0.0), *_price(figures[m]), m), default=otherwise
    )


def cheapest_single(figures: Mapping[str, Totals], otherwise: str) -> str:
    """The model with the lowest cost per completion, whatever it achieves. ``otherwise``: no cost is known."""
    known = [model for model, totals in figures.items() if totals.priced]
    return min(known, key=lambda m: (*_price(figures[m]), m), default=otherwise)


def cheapest_within_sla(figures: Mapping[str, Totals], sla: Sla, otherwise: str) -> str:
    """The cheapest model whose plain averages meet the SLA, without any bound: what people do by hand."""
    return cheapest_single({m: totals for m, totals in figures.items() if meets(totals, sla)}, otherwise)


def meets(totals: Totals, sla: Sla) -> bool:
    """Whether plain averages meet every clause of the SLA; unknown does not."""
    return bool(totals.requests) and not misses(totals, sla)


def misses(totals: Totals, sla: Sla) -> tuple[str, ...]:
    """The clauses of the SLA that plain averages do not meet; unknown is not met."""
    success, p95 = totals.success_rate, totals.latency_p95_ms
    safety, accuracy = totals.safety_violation_rate, totals.accuracy
    held = {
        "success": success is not None and success >= sla.min_success_rate,
        "latency_p95": p95 is not None and p95 <= sla.max_latency_p95_ms,
        "safety": safety is not None and safety <= sla.max_safety_violation_rate,
        "accuracy": sla.min_accuracy is None or (accuracy is not None and accuracy >= sla.min_accuracy),
    }
    return tuple(clause for clause, is_held in held.items() if not is_held)


def oracle(conversation: Conversation) -> str:
    """In hindsight: the cheapest recorded model that succeeded; when none did, the cheapest recorded."""
    outcomes = conversation.outcomes.values()
    return min([o for o in outcomes if o.success] or list(outcomes), key=_cheapest).model


def _cheapest(outcome: Outcome) -> tuple[bool, Decimal, str]:
    return (outcome.cost_usd is None, outcome.cost_usd or Decimal(0), outcome.model)


def _price(totals: Totals) -> tuple[bool, Decimal]:
    cost = totals.cost_per_completion
    return (cost is None, cost or Decimal(0))
