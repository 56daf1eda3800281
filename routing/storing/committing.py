"""What a group of selections does: read what its conversations were given last, decide each, commit all.

While the database is away its decisions are in the journal instead (routing.journal).
"""

from dataclasses import dataclass
from datetime import datetime

from django.db import OperationalError
from django.utils import timezone

from catalog.outage import AWAY, outage
from routing.bundle import current_bundle
from routing.engine import Bundle, Decision, SelectionProblem, SelectionRequest, canonical_json, decide
from routing.journal import journal
from routing.models import Selection
from routing.repeats import Asked
from routing.storing.grouping import Group
from routing.storing.lanes import lanes
from routing.storing.rows import Key, Row, Store, row_of_decision


@dataclass(frozen=True, slots=True)
class Wanted:
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


@dataclass(frozen=True, slots=True)
class Made:
    """A decision, the canonical JSON of its core, and where it is: ``is_new`` is False when the database had one under
    its ``request_id``, or this very decision, already."""

    decision: Decision
    core: bytes
    source: str
    is_new: bool = True


def make(wanted: list[Wanted]) -> list[Made | Exception]:
    """One of each, stored; a SelectionProblem where nothing may be given. Raises OperationalError when nothing takes
    them, or there has never been a bundle."""
    bundle = current_bundle()
    try:
        with outage.watch():
            return lanes.run(lambda store: _commit(store, bundle, wanted))
    except AWAY:
        return _write_down(bundle, wanted)


#: Two, so that one decides while the other waits for the database.
group: Group[Wanted, Made] = Group(make, leaders=2)


def _commit(store: Store, bundle: Bundle, wanted: list[Wanted]) -> list[Made | Exception]:
    last = store.last_profiles([one.key for one in wanted])
    made, rows = _decide(bundle, wanted, last, Selection.Source.REMOTE.value)
    stored = store.put(rows) if rows else set()
    if len(stored) == len(rows):
        return made
    return [
        Made(one.decision, one.core, one.source, is_new=False)
        if isinstance(one, Made) and one.decision.decision_id not in stored
        else one
        for one in made
    ]


def _decide(
    bundle: Bundle, wanted: list[Wanted], last: dict[Key, str], source: str
) -> tuple[list[Made | Exception], list[Row]]:
    now = timezone.now()
    made: list[Made | Exception] = []
    rows: list[Row] = []
    for one in wanted:
        try:
            decision = decide(bundle, one.request(last.get(one.key)))
        except SelectionProblem as problem:
            made.append(problem)
            continue
        core = canonical_json(decision.core())
        made.append(Made(decision, core, source))
        rows.append(row_of_decision(decision, core, one.caller, source, now))
        # The next turn of the same conversation may be in this very group.
        last[one.key] = decision.profile.slug
    return made, rows


def _write_down(bundle: Bundle, wanted: list[Wanted]) -> list[Made | Exception]:
    made, _ = _decide(bundle, wanted, {}, Selection.Source.JOURNAL.value)
    lines = [
        canonical_json([one.caller, decided.decision.core()])
        for one, decided in zip(wanted, made, strict=True)
        if isinstance(decided, Made)
    ]
    try:
        journal.append(*lines)
    except OSError as error:
        # It is not answered then: the worker decides by itself, and tells later.
        raise OperationalError(f"Neither the database nor the journal takes a decision: {error}") from error
    return made
