"""Replaying a stored decision: the same bundle and request, decided again, compared byte for byte."""

from dataclasses import dataclass
from typing import Any

import orjson

from routing.archive import DamagedArchiveError, NotArchivedError, archive
from routing.engine import Decision, SelectionProblem, SelectionRequest, canonical_json, decide
from routing.models import Selection


@dataclass(frozen=True, slots=True)
class Replayed:
    """``differences`` names the members that came out otherwise. ``decision`` is None unless the replay is equal,
    candidates included: then it is the one that was answered."""

    verdict: Selection.Replay
    detail: str
    differences: tuple[str, ...] = ()
    decision: Decision | None = None

    @property
    def candidates(self) -> list[dict[str, Any]] | None:
        return self.decision.candidates if self.decision else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.value,
            "detail": self.detail,
            "differences": list(self.differences),
        }


def replay(row: Selection) -> Replayed:
    """Decide a stored decision again, from the archived policy and snapshot. Never raises for its content."""
    stored: dict[str, Any] = orjson.loads(row.core)
    try:
        request = SelectionRequest.from_dict(stored)
        decision = decide(archive.bundle(stored["bundle_version"]), request)
    except (NotArchivedError, DamagedArchiveError) as error:
        return Replayed(Selection.Replay.IMPOSSIBLE, str(error))
    except SelectionProblem as problem:
        return Replayed(Selection.Replay.DIFFERENT, f"Decided again, it is a problem: {problem}")
    again = decision.core()
    if canonical_json(again).decode() == row.core:
        told = "Decided again from the archived policy and snapshot: equal, byte for byte."
        return Replayed(Selection.Replay.EQUAL, told, decision=decision)
    names = tuple(sorted(n for n in {*stored, *again} if stored.get(n) != again.get(n))) or ("byte form",)
    return Replayed(Selection.Replay.DIFFERENT, f"Decided again, these differ: {', '.join(names)}.", names)
