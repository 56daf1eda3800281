"""The plan of a guarded rollout: its steps, and what each must prove. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any, Self

from routing.rollout.evidence import Measure

MARGINS: Mapping[Measure, float] = MappingProxyType(
    {Measure.SUCCESS: 0.02, Measure.SAFETY: 0.005, Measure.ESCALATION: 0.02, Measure.SLOW: 0.02}
)
# No rise of violations or escalations is the promise, so any that is proved rolls back. A point of success or of
# slow answers lies within what an SLA leaves open, and would else, in time, undo every rollout to another model.
TOLERANCES: Mapping[Measure, float] = MappingProxyType(
    {Measure.SUCCESS: 0.01, Measure.SAFETY: 0.0, Measure.ESCALATION: 0.0, Measure.SLOW: 0.01}
)
MAX_STEPS = 20
WIDEST = 5.0


class PlanError(ValueError):
    """A plan that cannot be carried out. ``field`` names what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Plan:
    """Percentages rise from step to step. Margins and tolerances are shares: 0.02 is two points.

    Raises PlanError.
    """

    steps: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 100.0)
    min_minutes: int = 60
    min_conversations: int = 200
    """In each arm, per step."""
    margins: Mapping[Measure, float] = field(default_factory=lambda: dict(MARGINS))
    """The harm that must be ruled out before all conversations are exposed; earlier steps: see ``margin``."""
    tolerances: Mapping[Measure, float] = field(default_factory=lambda: dict(TOLERANCES))
    """Harm proved to be larger than this rolls back."""
    alpha: float = 0.05
    """At most this chance of a false roll-back in the whole rollout, and of a false advance at a step."""

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_whole("min_minutes", self.min_minutes, 0, 60 * 24 * 90)
        _check_whole("min_conversations", self.min_conversations, 1, 10_000_000)
        for measure in Measure:
            _check_measure(measure, self.margins, self.tolerances)
        if not (_number(self.alpha) and 0 < self.alpha <= 0.5):
            raise PlanError("alpha", f"alpha is {self.alpha!r}: above 0 and at most 0.5 is wanted")

    def margin(self, step: int, measure: Measure) -> float:
        """The harm that a step must rule out, as a share.

        So wide that the next step's share of all conversations times it is no more than the measure's margin, and never
        wider than 5 margins. The step before the last has then ruled out what the last share needs, and the last
        has only to show that nothing changed with it: 5 margins.
        """
        last = len(self.steps) - 1
        if step < last:
            wider = 100 / self.steps[step + 1]
        elif last > 0:
            wider = WIDEST
        else:
            wider = 100 / self.steps[step]
        return min(min(wider, WIDEST) * self.margins[measure], 0.99)

    def to_dict(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps),
            "min_minutes": self.min_minutes,
            "min_conversations": self.min_conversations,
            "margins": {measure.value: self.margins[measure] for measure in Measure},
            "tolerances": {measure.value: self.tolerances[measure] for measure in Measure},
            "alpha": self.alpha,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Of what ``to_dict`` gave, or a person wrote; what is left out has its default. Raises PlanError."""
        if not isinstance(data, Mapping):
            raise PlanError("plan", "a plan is an object")
        known = {"steps", "min_minutes", "min_conversations", "margins", "tolerances", "alpha"}
        for name in data:
            if name not in known:
                raise PlanError(str(name), f"a plan has no '{name}'; it has {', '.join(sorted(known))}")
        values: dict[str, Any] = dict(data)
        if "steps" in values:
            if isinstance(values["steps"], str) or not hasattr(values["steps"], "__iter__"):
                raise PlanError("steps", "steps are a list of percentages")
            values["steps"] = tuple(float(one) if _number(one) else one for one in values["steps"])
        for name, usual in (("margins", MARGINS), ("tolerances", TOLERANCES)):
            if name in values:
                values[name] = _by_measure(name, values[name], usual)
        return cls(**values)


def _by_measure(name: str, given: Any, usual: Mapping[Measure, float]) -> dict[Measure, float]:
    if not isinstance(given, Mapping):
        raise PlanError(name, f"{name} are an object: a share for each measure")
    values = dict(usual)
    for key, value in given.items():
        try:
            values[Measure(key)] = value
        except ValueError:
            raise PlanError(
                name, f"'{key}' is no measure; these are {', '.join(one.value for one in Measure)}"
            ) from None
    return values


def _check_steps(steps: tuple[float, ...]) -> None:
    if not 1 <= len(steps) <= MAX_STEPS:
        raise PlanError("steps", f"a plan has 1 to {MAX_STEPS} steps, not {len(steps)}")
    before = 0.0
    for step in steps:
        if not (_number(step) and before < step <= 100):
            raise PlanError(
                "steps", f"step {step!r}: percentages rise from step to step, above 0 and up to 100"
            )
        before = step


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise PlanError(name, f"{name} is {value!r}: a whole number from {least} to {most} is wanted")


def _check_measure(
    measure: Measure, margins: Mapping[Measure, float], tolerances: Mapping[Measure, float]
) -> None:
    for name, values in (("margins", margins), ("tolerances", tolerances)):
        if measure not in values:
            raise PlanError(name, f"{name} lack {measure.value}")
    margin, tolerance = margins[measure], tolerances[measure]
    if not (_number(margin) and 0 < margin < 1):
        raise PlanError(
            "margins", f"the margin of {measure.value} is {margin!r}: a share above 0 and below 1 is wanted"
        )
    if not (_number(tolerance) and 0 <= tolerance < margin):
        raise PlanError(
            "tolerances",
            f"the tolerance of {measure.value} is {tolerance!r}: at least 0 and below its margin of {margin} is wanted",
        )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
