"""What is estimated from: logged decisions with the chances of both policies. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

#: Probabilities by profile; what is left out has none.
Chances = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Observation:
    """One logged decision: ``profile`` was given. ``logged`` and ``candidate`` are the chances with which each policy
    gives each profile here. Cost in US dollars of all the decision's completions; None: not known."""

    conversation: str
    task: str
    profile: str
    logged: Chances
    candidate: Chances
    cost_usd: float | None
    success: bool
    safety_violation: bool
    escalated: bool


#: What is estimated of a policy: each figure, and how it is read off an observation.
FIGURES = ("cost_per_decision", "success_rate", "safety_violation_rate", "escalation_rate")
#: Those that are rates, 0 to 1.
RATES = FIGURES[1:]


def reward(observation: Observation, figure: str) -> float | None:
    """One decision's part of a figure; None: not known."""
    match figure:
        case "cost_per_decision":
            return observation.cost_usd
        case "success_rate":
            return float(observation.success)
        case "safety_violation_rate":
            return float(observation.safety_violation)
        case "escalation_rate":
            return float(observation.escalated)
    raise ValueError(f"there is no figure '{figure}'")


def pooled(observations: Sequence[Observation]) -> list[Observation]:
    """With the mean chances of all decisions of the same task in place of each decision's own, for both policies.

    What one decision could not have given, another of its task could: that tells of it if a profile's outcomes at a
    task stay the same over the time that is looked at. The balance heuristic of Veach & Guibas (SIGGRAPH 1995), as
    Agarwal, Basu, Schnabel & Joachims (KDD 2017) use it for several loggers.
    """
    by_task: dict[str, list[Observation]] = {}
    for observation in observations:
        by_task.setdefault(observation.task, []).append(observation)
    means = {
        task: (_mean([one.logged for one in of]), _mean([one.candidate for one in of]))
        for task, of in by_task.items()
    }
    return [replace(one, logged=means[one.task][0], candidate=means[one.task][1]) for one in observations]


def _mean(chances: list[Chances]) -> Chances:
    total: dict[str, float] = {}
    for one in chances:
        for profile, chance in one.items():
            total[profile] = total.get(profile, 0.0) + chance
    return {profile: chance / len(chances) for profile, chance in total.items()}
