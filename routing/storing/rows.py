"""A decision as the values that are stored of it."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from routing.archive import split_version
from routing.engine import Decision

#: Tenant, persona, conversation.
Key = tuple[str, str, str]
#: Tenant, persona, conversation, profile, when (seconds since 1970, UTC).
News = tuple[str, str, str, str, float]
#: This process, in what it writes; a fork is another one.
ORIGIN = uuid.uuid4().hex[:16]


class Row(NamedTuple):
    """The columns of ``routing.models.Selection`` that a decision fills, but when it is recorded; times are UTC."""

    decision_id: str
    decided_at: datetime
    tenant: str
    persona: str
    task: str
    conversation_id: str
    profile: str
    reason: str
    source: str
    caller: str
    request_id: str | None
    policy: str
    snapshot: int | None
    core: str


class Stored(NamedTuple):
    """What became of decisions: the ids of those that were not there before; and what conversations were really given
    last (None: nothing), of which something else was believed: nothing of theirs is stored."""

    new: set[str]
    last: dict[Key, str | None]


class Store(Protocol):
    """A database's statements. Each is safe to run again: what is stored already stays as it is."""

    def news(self, since: float, besides: str, most: int) -> list[News]:
        """What other processes than that one gave since then, the newest first, so many at most."""

    def put(self, rows: Sequence[Row], at: datetime, believed: Sequence[str | None] | None = None) -> Stored:
        """Commit decisions as recorded at this time, and each conversation's newest as its last. ``believed``: what
        the conversation of each was given last before them, as they were made to follow; None: they follow nothing."""


def row_of_decision(decision: Decision, core: bytes, caller: str, source: str) -> Row:
    """``core`` is the canonical JSON of the decision's core."""
    policy, snapshot = split_version(decision.bundle_version)
    asked = decision.request
    return Row(
        decision_id=decision.decision_id,
        decided_at=asked.at,
        tenant=asked.tenant,
        persona=asked.persona,
        task=asked.task,
        conversation_id=asked.conversation_id,
        profile=decision.profile.slug,
        reason=decision.reason.value,
        source=source,
        caller=caller[:160],
        request_id=asked.request_id,
        policy=policy,
        snapshot=snapshot,
        core=core.decode(),
    )


def key_of(row: Row) -> Key:
    return row.tenant, row.persona, row.conversation_id


def newest_by_conversation(rows: Sequence[Row]) -> list[Row]:
    """One row a conversation, in one order for all processes: two that lock several rows cannot lock each other out."""
    newest: dict[Key, Row] = {}
    for row in rows:
        key = key_of(row)
        if key not in newest or newest[key].decided_at <= row.decided_at:
            newest[key] = row
    return [newest[key] for key in sorted(newest)]
