"""Selections to be made, and made: what is common to all ways of storing them."""

from datetime import datetime
from typing import NamedTuple

from routing.engine import Bundle, Decision, SelectionProblem, SelectionRequest, canonical_json, decide
from routing.repeats import Asked
from routing.storing.rows import Key, Row, row_of_decision


class Wanted(NamedTuple):
    """One selection to be made: what is asked, by whom, when (UTC)."""

    asked: Asked
    caller: str
    at: datetime

    @property
    def key(self) -> Key:
        return self.asked.tenant, self.asked.persona, self.asked.conversation_id

    def request(self, last_profile: str | None) -> SelectionRequest:
        asked = self.asked
        return SelectionRequest(
            tenant=asked.tenant,
            persona=asked.persona,
            conversation_id=asked.conversation_id,
            at=self.at,
            task=asked.task,
            exclude=asked.exclude,
            last_profile=last_profile,
            request_id=asked.request_id,
        )


class Made(NamedTuple):
    """A decision, the canonical JSON of its core, and where it is: ``is_new`` is False when the database had one under
    its ``request_id``, or this very decision, already; ``is_in_database`` when it is not there yet."""

    decision: Decision
    core: bytes
    source: str
    is_new: bool = True
    is_in_database: bool = True


def decide_one(
    bundle: Bundle, wanted: Wanted, last_profile: str | None, source: str, *, is_in_database: bool = True
) -> Made:
    """Raises SelectionProblem."""
    decision = decide(bundle, wanted.request(last_profile))
    return Made(decision, canonical_json(decision.core()), source, is_in_database=is_in_database)


def decide_all(
    bundle: Bundle, wanted: list[Wanted], last: dict[Key, str], source: str, *, is_in_database: bool = True
) -> tuple[list[Made | Exception], list[Row]]:
    """One of each in their order, a SelectionProblem where nothing may be given; and the rows of those made. ``last``
    is what conversations were given last, and is kept up to date."""
    made: list[Made | Exception] = []
    rows: list[Row] = []
    for one in wanted:
        try:
            found = decide_one(bundle, one, last.get(one.key), source, is_in_database=is_in_database)
        except SelectionProblem as problem:
            made.append(problem)
            continue
        made.append(found)
        rows.append(row_of_decision(found.decision, found.core, one.caller, source))
        # The next turn of the same conversation may be in this very group.
        last[one.key] = found.decision.profile.slug
    return made, rows
