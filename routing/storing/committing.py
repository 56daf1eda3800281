"""What a group of selections does: decide each by what its conversation was given last, as far as this process knows,
and commit all; in one statement, which stores nothing of a conversation that was given something else meanwhile. Those
are decided anew, by what they were given.

While the database is away its decisions are in the journal instead (routing.journal).
"""

from django.db import OperationalError
from django.utils import timezone

from catalog.outage import AWAY, outage
from routing.bundle import current_bundle
from routing.engine import Bundle
from routing.journal import journal, line_of
from routing.models import Selection
from routing.storing.conversations import Conversations
from routing.storing.grouping import Group
from routing.storing.lanes import lanes
from routing.storing.making import Made, Wanted, decide_all
from routing.storing.rows import Key, Row, Store, Stored, key_of

#: What this process believes. Where it is wrong, a decision is made twice.
believed = Conversations()
#: So often a decision is made anew because others go on with its conversation meanwhile; then it follows the last of
#: them that is known.
_PATIENCE = 3


def make(wanted: list[Wanted]) -> list[Made | Exception]:
    """One of each, stored; a SelectionProblem where nothing may be given. Raises OperationalError when nothing takes
    them, or there has never been a bundle."""
    bundle = current_bundle()
    try:
        with outage.watch():
            return lanes.run(lambda store: _commit(store, bundle, wanted))
    except AWAY:
        return _write_down(bundle, wanted)


#: Two, so that one decides while the other waits for the database, when there are many.
group: Group[Wanted, Made] = Group(make, leaders=2, worthwhile=16)


def _commit(store: Store, bundle: Bundle, wanted: list[Wanted]) -> list[Made | Exception]:
    last = {key: profile for one in wanted if (profile := believed.last(key := one.key)) is not None}
    made: dict[int, Made | Exception] = {}
    places = list(range(len(wanted)))
    for patience in reversed(range(_PATIENCE)):
        asked = [wanted[place] for place in places]
        found, stored = _try(store, bundle, asked, last, is_last=not patience)
        made.update(zip(places, found, strict=True))
        if not stored.last:
            break
        places = [place for place in places if wanted[place].key in stored.last]
        last = {key: profile for key, profile in stored.last.items() if profile is not None}
    return [made[place] for place in range(len(wanted))]


def _try(
    store: Store, bundle: Bundle, wanted: list[Wanted], last: dict[Key, str], *, is_last: bool
) -> tuple[list[Made | Exception], Stored]:
    """Decide, and store what follows what is there."""
    before = dict(last)
    made, rows = decide_all(bundle, wanted, last, Selection.Source.REMOTE.value)
    if not rows:
        return made, Stored(set(), {})
    beliefs = None if is_last else [before.get(key_of(row)) for row in rows]
    stored = store.put(rows, timezone.now(), beliefs)
    _note(rows, stored)
    if len(stored.new) == len(rows):
        return made, stored
    return [
        one._replace(is_new=False)
        if isinstance(one, Made) and one.decision.decision_id not in stored.new
        else one
        for one in made
    ], stored


def _note(rows: list[Row], stored: Stored) -> None:
    for row in rows:
        if row.decision_id in stored.new:
            believed.note(key_of(row), row.profile, row.decided_at.timestamp())


def _write_down(bundle: Bundle, wanted: list[Wanted]) -> list[Made | Exception]:
    made, _ = decide_all(bundle, wanted, {}, Selection.Source.JOURNAL.value, is_in_database=False)
    lines = [
        line_of(one.caller, decided.core)
        for one, decided in zip(wanted, made, strict=True)
        if isinstance(decided, Made)
    ]
    try:
        journal.append(*lines)
    except OSError as error:
        # It is not answered then: the worker decides by itself, and tells later.
        raise OperationalError(f"Neither the database nor the journal takes a decision: {error}") from error
    return made
