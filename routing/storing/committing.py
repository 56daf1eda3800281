"""What a group of selections does: read what its conversations were given last, decide each, commit all.

While the database is away its decisions are in the journal instead (routing.journal).
"""

from dataclasses import replace

from django.db import OperationalError

from catalog.outage import AWAY, outage
from routing.bundle import current_bundle
from routing.engine import Bundle
from routing.journal import journal, line_of
from routing.models import Selection
from routing.storing.grouping import Group
from routing.storing.lanes import lanes
from routing.storing.making import Made, Wanted, decide_all
from routing.storing.rows import Store


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
    last = store.last_profiles([one.key for one in wanted])
    made, rows = decide_all(bundle, wanted, last, Selection.Source.REMOTE.value)
    stored = store.put(rows) if rows else set()
    if len(stored) == len(rows):
        return made
    return [
        replace(one, is_new=False)
        if isinstance(one, Made) and one.decision.decision_id not in stored
        else one
        for one in made
    ]


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
