"""Evidence about the difference of two arms' rates that may be looked at after every conversation. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Trials of both arms and how many turned out badly; fractions are allowed."""

    treated: float
    bad_treated: float
    control: float
    bad_control: float
