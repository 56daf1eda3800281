"""Scores as a snapshot's JSON tells them, without making objects of them all: that would be 100 MB for each 1,000
scopes of 20 profiles. Pure."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, overload

import msgspec
import orjson

from routing.scorecard import Scorecard


class ToldScope(msgspec.Struct):
    """A scope in the JSON, of which ``scorecards`` and ``rules`` (empty: not kept) are left as they stand there."""

    as_of: str | None
    incumbent: str
    scorecards: msgspec.Raw
    rules: msgspec.Raw = msgspec.Raw(b"")


class ToldSnapshot(msgspec.Struct):
    """``scopes``: by tenant, then by persona."""

    created_at: str
    persona_scopes: dict[str, ToldScope]
    scopes: dict[str, dict[str, ToldScope]]


class Kept(dict[Any, Any]):
    """A dictionary that forgets its oldest entries when it has more than ``most``. For many threads."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > self._most:
            # Another thread may have changed it between the two steps; the loop looks again.
            with suppress(RuntimeError, StopIteration):
                self.pop(next(iter(self)), None)


class PackedCards(Sequence[Scorecard]):
    """Scorecards of a scope, kept parsed for a moment: a process looks at few scopes at a time, and what it works out
    of them is kept elsewhere (``Bundle.views``). Equal to any sequence of equal scorecards."""

    __slots__ = ("_packed",)

    def __init__(self, told: bytes | memoryview) -> None:
        """Of a JSON list of scorecards (``Scorecard.to_dict``)."""
        self._packed = zlib.compress(told, 1)

    def _cards(self) -> tuple[Scorecard, ...]:
        return _parsed(self._packed)

    def __len__(self) -> int:
        return len(self._cards())

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
