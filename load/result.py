"""What a part of a load test found."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from load.figures import Count, Summary
from load.trend import Trend

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process that is ours, or of all processes of a server together."""

    name: str
    is_ours: bool
    trend: Trend


@dataclass
class Result:
    """``wrong`` are sentences, one for each thing that may not be; empty: all is well. ``tables`` are head and rows."""

    title: str
    requests: Sequence[Summary] = ()
    counts: Sequence[Count] = ()
    memory: Sequence[Memory] = ()
    tables: list[Table] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    facts: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
