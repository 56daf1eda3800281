"""What a bench found, and how it is printed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One figure. ``target`` is the figure asked for; ``more_is_better`` says which side of it is good."""

    name: str
    unit: str
    rounds: tuple[float, ...]
    target: float | None = None
    more_is_better: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def render(self) -> str:
        spread = f"{min(self.rounds):,.4g} to {max(self.rounds):,.4g}"
        told = f"{self.name:<58} {self.median:>11,.4g} {self.unit:<9} ({spread})"
        if self.target is None:
            return told
        ratio = self.median / self.target if self.more_is_better else self.target / self.median
        verdict = "met" if ratio >= 1 else "MISSED"
        return f"{told:<104} target {self.target:,.4g}: {ratio:.1f}x, {verdict}"


def timed(work: Callable[[], object], rounds: int) -> tuple[float, ...]:
    """Seconds of wall time of each round."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return tuple(found)
