"""A cost at several sizes, the exponent that it grows by, and how both are told. Pure."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: What an exponent may be of a cost that does not grow, and of one that grows with its size: a fit is never exact.
FLAT, LINEAR = 0.1, 1.1


@dataclass(frozen=True)
class Curve:
    """``points`` are (size, cost), sizes rising. ``most`` is the largest exponent that is good; None: only told.
    ``ceiling`` is the largest cost that is."""

    name: str
    axis: str
    unit: str
    points: tuple[tuple[float, float], ...]
    most: float | None = None
    ceiling: float | None = None

    @property
    def exponent(self) -> float | None:
        """The slope of the line through log(cost) over log(size), by least squares; a size of 0 has no logarithm and is
        left out. None: fewer than two sizes are left."""
        return slope(self.points)

    @property
    def last(self) -> float | None:
        """The same between the two largest sizes, where what is fixed weighs least."""
        return slope(self.points[-2:])

    @property
    def is_met(self) -> bool:
        grows = self.most is not None and any(
            e is not None and e > self.most for e in (self.exponent, self.last)
        )
        high = self.ceiling is not None and any(cost > self.ceiling for _, cost in self.points)
        return not grows and not high


def slope(points: Iterable[tuple[float, float]]) -> float | None:
    """See ``Curve.exponent``. ValueError for a cost that is not positive."""
    logs = [(math.log(size), math.log(cost)) for size, cost in points if size > 0]
    if len({size for size, _ in logs}) < 2:
        return None
    return statistics.linear_regression([x for x, _ in logs], [y for _, y in logs]).slope


def table(curves: Sequence[Curve]) -> str:
    """A Markdown table, a curve a line."""
    rows = [
        "| cost | over | at each size | exponent | last step | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        f"| {curve.name}, {curve.unit} | {curve.axis} | {_points(curve)} | {_told(curve.exponent)} "
        f"| {_told(curve.last)} | {_target(curve)} | {_verdict(curve)} |"
        for curve in curves
    ]
    return "\n".join(rows)


def _points(curve: Curve) -> str:
    return ", ".join(f"{size:,.0f}: {cost:,.4g}" for size, cost in curve.points)


def _told(exponent: float | None) -> str:
    return "" if exponent is None else f"{exponent:.2f}"


def _target(curve: Curve) -> str:
    exponent = [] if curve.most is None else [f"exponent <= {curve.most:g}"]
    return ", ".join([*exponent, *([] if curve.ceiling is None else [f"<= {curve.ceiling:g} {curve.unit}"])])


def _verdict(curve: Curve) -> str:
    if curve.most is None and curve.ceiling is None:
        return ""
    return "met" if curve.is_met else "MISSED"


def put(text: str, name: str, section: str) -> str:
    """``text`` with ``section`` between its markers ``<!-- name -->`` and ``<!-- end name -->``, in place of what was
    there. ValueError: it has no such markers."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no {start} and {end}")
    return f"{before}{start}\n{section}\n{end}{after}"
