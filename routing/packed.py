"""Scorecards kept as compressed JSON: a twentieth of the objects' memory, parsed when somebody looks. Pure."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, overload

import orjson

from routing.scorecard import Scorecard


class PackedCards(Sequence[Scorecard]):
    """Scorecards of a scope, kept parsed for a moment: a process looks at few scopes at a time, and what it works out
    of them is kept elsewhere (``Bundle.views``). Equal to any sequence of equal scorecards."""

    __slots__ = ("_count", "_packed")

    def __init__(self, told: Sequence[Mapping[str, Any]]) -> None:
        """Of scorecards' JSON values (``Scorecard.to_dict``)."""
        self._count = len(told)
        self._packed = zlib.compress(orjson.dumps(told), 1)

    def _cards(self) -> tuple[Scorecard, ...]:
        return _parsed(self._packed)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Scorecard: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Scorecard, ...]: ...
    def __getitem__(self, index: int | slice) -> Scorecard | tuple[Scorecard, ...]:
        return self._cards()[index]

    def __iter__(self) -> Iterator[Scorecard]:
        return iter(self._cards())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedCards) and self._packed == other._packed:
            return True
        return self._cards() == tuple(other) if isinstance(other, tuple | PackedCards) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._cards())

    def __repr__(self) -> str:
        return repr(self._cards())


# Who looks at a scope's scorecards looks at them a few times in a row.
@lru_cache(maxsize=32)
def _parsed(packed: bytes) -> tuple[Scorecard, ...]:
    return tuple(map(Scorecard.from_dict, orjson.loads(zlib.decompress(packed))))
