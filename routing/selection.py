"""Selecting: decide by the bundle and one row (what the conversation was given last), then commit.

The decision, its place in the outbox and the conversation's last profile are in the database before the answer goes
out; selections that come at the same time are committed together (routing.storing). With SELECTION_STORE=write-behind
they are on their way there.
"""

import time
from datetime import datetime

import orjson
from django.conf import settings
from django.db import connection

from catalog.outage import AWAY, give_back_connection
from observability.tally import tally
from routing.answer import Answer
from routing.engine import SelectionProblem
from routing.models import Selection
from routing.repeats import Asked, repeats
from routing.replay import replay
from routing.storing.behind import make_behind
from routing.storing.committing import group, make
from routing.storing.making import Made, Wanted


def select(asked: Asked, caller: str, at: datetime) -> Answer:
    """The decision, committed. The same ``request_id`` gives the same answer again.

    Raises SelectionProblem; OperationalError only when there has never been a bundle, or nothing can take the decision.
    """
    began = time.perf_counter()
    answer = repeats.once(asked, lambda: _select(asked, caller, at))
    tally.decided(time.perf_counter() - began)
    return answer


def _select(asked: Asked, caller: str, at: datetime) -> Answer:
    wanted = Wanted(asked, caller, at)
    try:
        made = _make(wanted)
    except SelectionProblem:
        # Asked before, it had an answer then, which stands.
        if earlier := _earlier(asked):
            return earlier
        raise
    if not made.is_new and (earlier := _earlier(asked)):
        # The same request arrived before, or at once, and the other was faster.
        return earlier
    answer = Answer.of(made.decision, made.core)
    if not made.is_in_database:
        repeats.keep(asked, answer)
    if made.is_new:
        tally.decision(made.decision.reason.value, made.source)
    return answer


def _make(wanted: Wanted) -> Made:
    if connection.in_atomic_block:
        # What this thread's transaction sees, no other thread does.
        [made] = make([wanted])
        if isinstance(made, Exception):
            raise made
        return made
    if settings.SELECTION_STORE == "write-behind" and (behind := make_behind(wanted)):
        return behind
    return group.submit(wanted)


def _earlier(asked: Asked) -> Answer | None:
    """The answer that this ``request_id`` got; a problem when it was asked something else."""
    if asked.request_id is None:
        return None
    try:
        row = Selection.objects.filter(tenant=asked.tenant, request_id=asked.request_id).first()
    except AWAY:
        return None
    finally:
        give_back_connection()
    if row is None:
        return None
    core = orjson.loads(row.core)
    names = ("tenant", "persona", "conversation_id", "task", "request_id")
    asked.refuse_other(Asked(**{name: core[name] for name in names}, exclude=tuple(core["exclude"])))
    decision = replay(row).decision
    give_back_connection()
    # Without its candidates a decision is still the same decision.
    return Answer.from_dict(decision.to_dict() if decision else {**core, "candidates": []})
