"""A decision as it is sent."""

from dataclasses import dataclass
from typing import Any

import orjson

from routing.decision import Decision
from routing.policy import canonical_json

_BEFORE = b'"candidates_sha256":'


@dataclass(frozen=True, slots=True)
class Answer:
    """``json`` is canonical: sorted members, no spaces, UTF-8."""

    json: bytes

    @classmethod
    def of(cls, decision: Decision, core: bytes) -> "Answer":
        """From the canonical JSON of the decision's core: the candidates are put in their place, and nothing of it is
        written anew."""
        # What stands before that place (as_of, bundle_version) holds no words of a caller's.
        head, found, tail = core.partition(_BEFORE)
        return cls(b"".join((head, b'"candidates":', decision.candidates_json, b",", found, tail)))

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> "Answer":
        return cls(canonical_json(told))

    def to_dict(self) -> dict[str, Any]:
        told: dict[str, Any] = orjson.loads(self.json)
        return told
