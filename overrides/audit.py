"""The audit log: appended in the transaction of the change it tells of, chained by hashes, never altered."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.http import HttpRequest
from rest_framework.request import Request

from observability import ids
from overrides.models import AuditEntry, AuditHead

GENESIS = "0" * 64
#: Entries are read in pieces of so many.
_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person, a service key, or the system itself; from where, and by whose leave."""

    name: str
    role: str
    source_ip: str = ""
    request_id: str = ""
    #: The approved change request that this is done by, if any.
    change_request: int | None = None

    @classmethod
    def asking(cls, name: str, role: str, request: HttpRequest | Request) -> "Actor":
        """Somebody who asks over HTTP, with the request's address and id."""
        return cls(
            name,
            role,
            request.META.get("REMOTE_ADDR", "")[:45],
            ids.current() or "",
        )


#: What happens by itself, such as an override's end.
SYSTEM = Actor("system", "system")


def append(
    actor: Actor,
    verb: AuditEntry.Verb,
    object_type: str,
    object_id: str,
    *,
    tenant: str | None,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    reason: str,
    at: datetime,
) -> AuditEntry:
    """Add an entry; must run in the transaction of the change, so that there are both or neither."""
    AuditHead.objects.get_or_create(id=1)
    # The lock is held until the change commits: the next writer sees this entry, or none.
    head = AuditHead.objects.select_for_update().get(id=1)
    entry = AuditEntry(
        seq=head.seq + 1,
        at=at,
        actor=actor.name[:160],
        role=actor.role,
        source_ip=actor.source_ip,
        request_id=actor.request_id[:100],
        verb=verb,
        object_type=object_type,
        object_id=object_id,
        tenant=tenant,
        before=before,
        after=after,
        reason=reason,
        previous_hash=head.hash,
    )
    entry.hash = hash_of(entry)
    entry.save(force_insert=True)
    AuditHead.objects.filter(id=1).update(seq=entry.seq, hash=entry.hash)
    return entry


#: What an entry tells, in the order of exports; the hash is over all of it but itself.
MEMBERS = (
    "seq",
    "at",
    "actor",
    "role",
    "source_ip",
    "request_id",
    "verb",
    "object_type",
    "object_id",
    "tenant",
    "before",
    "after",
    "reason",
    "previous_hash",
    "hash",
)
_HASHED = tuple(name for name in MEMBERS if name not in ("at", "hash"))


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 over every member but the hash itself, the previous entry's hash included."""
    content = {name: getattr(entry, name) for name in _HASHED} | {"at": entry.at.isoformat()}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken_at`` is the first entry that does not fit (its number), ``why`` says how; None: all fit."""

    entries: int
    last_hash: str
    broken_at: int | None = None
    why: str = ""


def verify(
    since: int = 0, since_hash: str = GENESIS, told: Callable[[int], None] = lambda seq: None
) -> Verdict:
    """Go over the chain: every hash, every link, every number, and the head. ``since``: only over what follows on
    this entry, which has (or had) this hash. ``told`` is called now and then with the last entry that fits."""
    # Read first: what is appended meanwhile comes after it.
    head = _head()
    expected, previous, at_head = since + 1, since_hash, since_hash
    for entry in _in_order(since):
        if entry.seq != expected:
            return Verdict(expected - 1, previous, expected, f"entry {expected} is missing")
        if entry.previous_hash != previous:
            return Verdict(expected - 1, previous, entry.seq, "it does not follow on the entry before it")
        if entry.hash != hash_of(entry):
            return Verdict(expected - 1, previous, entry.seq, "it was altered: its hash does not match")
        expected, previous = expected + 1, entry.hash
        if entry.seq == head[0]:
            at_head = entry.hash
        if entry.seq % _AT_ONCE == 0:
            told(entry.seq)
    last = expected - 1
    if last < head[0]:
        return Verdict(last, previous, expected, f"the log ends before its head, entry {head[0]}")
    if head != (max(head[0], since), at_head) or _head()[0] < last:
        return Verdict(
            last, previous, head[0] + 1, f"it is not what the head says, which is at entry {head[0]}"
        )
    return Verdict(last, previous)


def _head() -> tuple[int, str]:
    head = AuditHead.objects.filter(id=1).first()
    return (head.seq, head.hash) if head else (0, GENESIS)


def _in_order(since: int) -> Iterator[AuditEntry]:
    return AuditEntry.objects.filter(seq__gt=since).order_by("seq").iterator(chunk_size=_AT_ONCE)
