"""A decision as it is sent."""

from typing import Any, NamedTuple

import orjson

from routing.decision import Decision
from routing.policy import canonical_json

_BEFORE = b'"candidates_sha256":'


class Answer(NamedTuple):
    """``core`` is the canonical JSON (sorted members, no spaces, UTF-8) of the decision's core; ``candidates`` that of
    its candidates, which all answers of a scope share."""

    core: bytes
    candidates: bytes

    @classmethod
    def of(cls, decision: Decision, core: bytes) -> "Answer":
        return cls(core, decision.candidates_json)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Answer":
        core = {name: value for name, value in told.items() if name != "candidates"}
        return cls(canonical_json(core), canonical_json(told["candidates"]))

    @property
    def json(self) -> bytes:
        """All of it, canonical: the candidates are put in their place, and nothing is written anew."""
        # What stands before that place (as_of, bundle_version) holds no words of a caller's.
        head, found, tail = self.core.partition(_BEFORE)
        return b"".join((head, b'"candidates":', self.candidates, b",", found, tail))

    def to_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = orjson.loads(self.json)
        return told
