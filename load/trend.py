"""Whether something grows, told robustly. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

#: Growth beyond this share is a leak until somebody shows otherwise.
MOST_GROWTH = 0.05
#: A trend of fewer values says nothing.
LEAST = 8


@dataclass(frozen=True, slots=True)
class Trend:
    """``first`` and ``last`` are the medians of the first and the last quarter; ``growth`` is what the Theil-Sen line
    rises from one end to the other, as a share of where it begins."""

    first: float
    last: float
    growth: float

    @property
    def is_level(self) -> bool:
        return self.growth <= MOST_GROWTH


def trend(values: Sequence[tuple[float, float]]) -> Trend | None:
    """Of (time, value) in order of time, times all different, values above 0. None: fewer than LEAST."""
    if len(values) < LEAST:
        return None
    quarter = len(values) // 4
    slope = median((late[1] - early[1]) / (late[0] - early[0]) for early, late in combinations(values, 2))
    start = median(value - slope * (at - values[0][0]) for at, value in values)
    return Trend(
        first=median(value for _, value in values[:quarter]),
        last=median(value for _, value in values[-quarter:]),
        growth=slope * (values[-1][0] - values[0][0]) / start,
    )
