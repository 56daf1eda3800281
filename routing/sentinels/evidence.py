"""What sentinels look at: a profile's calls of the last minutes, and of the day before them, cell by cell. Pure.

A cell is (tenant, persona, task). Calls are compared within their own cell, so that harder or longer work coming to a
profile does not read as the profile getting worse.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cached_property, lru_cache, reduce
from heapq import nlargest
from operator import add, attrgetter
from typing import Any, NamedTuple, Self

#: A cell with fewer calls in the baseline is judged by its persona's and task's over all tenants, or not at all.
KNOWN = 20


class CellKey(NamedTuple):
    tenant: str
    persona: str
    task: str


@dataclass(frozen=True, slots=True)
class _Sums:
    def __add__(self, other: Self) -> Self:
        values = _values_of(type(self))  # type: ignore[arg-type]  # a class is hashable
        return type(self)(*map(add, values(self), values(other)))


@lru_cache
def _values_of(made: type[_Sums]) -> Callable[[_Sums], tuple[Any, ...]]:
    return attrgetter(*(field.name for field in fields(made)))


@dataclass(frozen=True, slots=True)
class Seen(_Sums):
    """Sums of recent calls. ``conversations`` are distinct ones, within each part of a window, and ``failed`` those
    with a failure; ``other``: answers by another model than was asked for, in ``othered`` conversations;
    ``squares``: of completion tokens. ``cost`` and ``listed`` (US dollars) are of calls whose cost is known: as
    reported or derived, and by the price list in force; ``billed_*`` of those whose cost was reported."""

    requests: int = 0
    conversations: int = 0
    failures: int = 0
    failed: int = 0
    other: int = 0
    othered: int = 0
    tokens: int = 0
    squares: float = 0.0
    cost: Decimal = Decimal(0)
    listed: Decimal = Decimal(0)
    billed: int = 0
    billed_cost: Decimal = Decimal(0)
    billed_listed: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Usual(_Sums):
    """Sums of the baseline's calls; ``tokens`` are completion tokens."""

    requests: int = 0
    failures: int = 0
    other: int = 0
    tokens: int = 0


@dataclass(frozen=True)
class Baseline:
    """The day before. ``markup``: what all of it cost above the price list (0.1: a tenth more); None: unknown, as when
    the list changed meanwhile."""

    cells: Mapping[CellKey, Usual]
    markup: float | None = None

    def usual(self, key: CellKey) -> tuple[CellKey, Usual] | None:
        """What is usual for a cell, and of which cell (tenant "": over all tenants); None: too little is known."""
        own = self.cells.get(key)
        if own is not None and own.requests >= KNOWN:
            return key, own
        like = self._of_all_tenants.get(key[1:])
        return (key._replace(tenant=""), like) if like is not None and like.requests >= KNOWN else None

    @cached_property
    def _of_all_tenants(self) -> Mapping[tuple[str, ...], Usual]:
        found: dict[tuple[str, ...], Usual] = {}
        for key, cell in self.cells.items():
            found[key[1:]] = found[key[1:]] + cell if key[1:] in found else cell
        return found


Recent = Mapping[CellKey, Seen]


def all_of(recent: Recent) -> Seen:
    return reduce(Seen.__add__, recent.values(), Seen())


@dataclass(frozen=True, slots=True)
class Compared:
    """Recent calls that a baseline says something of: their sums, and what they would be as usual. ``base``: how many
    calls of the baseline say so, as far as their weights go: a rate of so many has the same variance."""

    seen: Seen
    failures: float
    other: float
    tokens: float
    base: int


def compare(recent: Recent, baseline: Baseline) -> Compared:
    """Calls of cells that nothing is known of are left out: new work cannot be told from worse work."""
    seen, failures, other, tokens = Seen(), 0.0, 0.0, 0.0
    sources: dict[CellKey, tuple[int, int]] = {}
    for key, cell in recent.items():
        found = baseline.usual(key)
        if found is None:
            continue
        source, usual = found
        seen = seen + cell
        failures += cell.requests * usual.failures / usual.requests
        other += cell.requests * usual.other / usual.requests
        tokens += cell.requests * usual.tokens / usual.requests
        sources[source] = (sources.get(source, (0, 0))[0] + cell.requests, usual.requests)
    spread = sum(n * n / known for n, known in sources.values())
    return Compared(seen, failures, other, tokens, int(seen.requests**2 / spread) if spread else 0)


#: By these a tenant can be what a finding comes from.
_MEASURES = ("requests", "failures", "other", "tokens", "billed_cost")


def leading(recent: Recent, most: int) -> set[str]:
    """The tenants with most of anything, ``most`` by each measure. Who has little cannot be all of what is found."""
    by_tenant: dict[str, Seen] = {}
    for key, cell in recent.items():
        by_tenant[key.tenant] = by_tenant[key.tenant] + cell if key.tenant in by_tenant else cell
    return {
        tenant
        for name in _MEASURES
        for tenant in nlargest(most, by_tenant, key=lambda one: (getattr(by_tenant[one], name), one))
    }


def without(recent: Recent, tenant: str) -> Recent:
    return {key: cell for key, cell in recent.items() if key.tenant != tenant}
