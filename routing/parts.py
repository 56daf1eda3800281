"""Many overrides in parts that versions of the policy share: a change makes one new part, not all anew. Pure."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from routing.policy import canonical_json
from routing.standing import StandingOverride

#: About this many overrides are in a part.
SIZE = 512
_BITS = 2**32


@dataclass(frozen=True)
class Part:
    """Overrides that follow each other by id."""

    overrides: tuple[StandingOverride, ...]

    def json(self) -> bytes:
        """Canonical JSON: a list. Not kept, since few parts are written out twice."""
        return canonical_json([override.to_dict() for override in self.overrides])

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the JSON."""
        return hashlib.sha256(self.json()).hexdigest()


def divide(overrides: Sequence[StandingOverride], known: Iterable[Part] = ()) -> tuple[Part, ...]:
    """Overrides, by id, in parts; those that are as in ``known`` are the same objects.

    Where a part ends hangs on the id of its last override alone, so a change moves no other part's ends, and
    all processes divide alike.
    """
    ends = [n for n, o in enumerate(overrides, 1) if o.id * 2_654_435_761 % _BITS < _BITS // SIZE]
    if not ends or ends[-1] != len(overrides):
        ends.append(len(overrides))
    by_first = {part.overrides[0].id: part for part in known if part.overrides}
    found, start = [], 0
    for end in ends:
        piece = tuple(overrides[start:end])
        same = by_first.get(piece[0].id) if piece else None
        # Overrides that have not changed are the same objects, which compare at once.
        found.append(same if same is not None and same.overrides == piece else Part(piece))
        start = end
    return tuple(found) if overrides else ()
