"""Whether the audit log is as it was written, asked from its page: run on demand, with progress, kept in the cache.

A short log is gone over at once, a long one by a task. ``manage.py audit verify`` says the same without a cache.
"""

import logging
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from redis.exceptions import RedisError

from overrides import audit, checkpoints
from overrides.models import AuditHead

log = logging.getLogger(__name__)

#: So many entries are gone over while somebody waits: 0.14 s, measured.
AT_ONCE = 5_000
#: A run that told nothing for so long was killed, or no worker takes it.
LOST_AFTER = timedelta(minutes=2)
_CACHE_AWAY = (RedisError, OSError)
_KEY = "commandcenter.audit-check"


@dataclass(frozen=True, slots=True)
class Check:
    """One run. Times are ISO 8601. ``state``: waiting, running, fits, broken or failed; ``told`` says it in words."""

    id: str
    by: str
    state: str
    started_at: str
    told_at: str
    entries: int
    done: int = 0
    told: str = ""

    @property
    def is_under_way(self) -> bool:
        return self.state in ("waiting", "running")

    @property
    def told_time(self) -> datetime:
        return datetime.fromisoformat(self.told_at)

    def is_lost(self, now: datetime) -> bool:
        return self.is_under_way and now - self.told_time > LOST_AFTER

    @property
    def percent(self) -> int:
        return min(100, self.done * 100 // self.entries) if self.entries else 0


def last_check() -> Check | None:
    """The last run, or the one that is under way; None: there was none, or the cache has forgotten it, or is away."""
    try:
        told: dict[str, Any] | None = cache.get(_KEY)
    except _CACHE_AWAY as error:
        log.warning("the cache cannot be asked for the last check of the audit log: %s", error)
        return None
    return Check(**told) if told else None


def _keep(check: Check) -> None:
    try:
        cache.set(_KEY, asdict(check), timeout=None)
    except _CACHE_AWAY as error:
        log.warning("the check of the audit log cannot be kept: %s", error)


def start(by: str, now: datetime, enqueue: Callable[[str, str], Any]) -> Check:
    """Begin a run, unless one is under way, which is returned then. ``enqueue`` has a long one done elsewhere: it gets
    the run's id and who asked; OSError when it cannot."""
    known = last_check()
    if known is not None and known.is_under_way and not known.is_lost(now):
        return known
    head = AuditHead.objects.filter(id=1).values_list("seq", flat=True).first() or 0
    at = now.isoformat()
    check = Check(uuid.uuid4().hex, by, "waiting", at, at, head)
    if head <= AT_ONCE:
        return run(check, lambda: now)
    _keep(check)
    try:
        enqueue(check.id, by)
    except OSError as error:
        log.warning("no check of the audit log: the broker is away: %s", error)
        check = replace(check, state="failed", told="The broker is away, so no worker can be asked.")
        _keep(check)
    return check


def run(check: Check, clock: Callable[[], datetime]) -> Check:
    """Go over chain and checkpoints; returns what came of it, which is kept, too."""
    check = replace(check, state="running", told_at=clock().isoformat())
    _keep(check)

    def told(done: int) -> None:
        _keep(replace(check, done=done, told_at=clock().isoformat()))

    try:
        state, words, done = _verified(told)
    except Exception:
        failed = "It was broken off; the log of this service says why. Or run manage.py audit verify."
        _keep(replace(check, state="failed", told=failed, told_at=clock().isoformat()))
        raise
    check = replace(check, state=state, told=words, done=done, told_at=clock().isoformat())
    _keep(check)
    return check


def _verified(told: Callable[[int], None]) -> tuple[str, str, int]:
    verdict = audit.verify(told=told)
    if verdict.broken_at is not None:
        words = f"The chain breaks at entry {verdict.broken_at}: {verdict.why}."
        return "broken", words, verdict.entries
    fits = f"{verdict.entries} entries, all as they were written."
    try:
        found = checkpoints.read(checkpoints.checkpoint_file()).checkpoints
        checkpoints.check(found, checkpoints.trusted_keys())
    except OSError:
        return "fits", f"{fits} This process sees no checkpoint file to hold them against.", verdict.entries
    except checkpoints.Misfit as misfit:
        return "broken", str(misfit), verdict.entries
    return "fits", f"{fits} {len(found)} signed checkpoints, all fit.", verdict.entries


@dataclass(frozen=True, slots=True)
class Signed:
    """The last signed checkpoint. ``newer``: entries since. ``problem``: it does not fit, or there is none."""

    seq: int | None = None
    at: datetime | None = None
    key_id: str = ""
    newer: int | None = None
    problem: str = ""


def last_signed() -> Signed:
    """Read the end of the checkpoint file and hold the last one against the log. Two queries."""
    try:
        last = checkpoints.last()
    except OSError:
        return Signed(problem="This process sees no checkpoint file yet: beat signs one every five minutes.")
    if last is None:
        return Signed(problem="There is no genuine checkpoint at the end of the checkpoint file.")
    head = AuditHead.objects.filter(id=1).values_list("seq", flat=True).first() or 0
    problem = ""
    try:
        checkpoints.check([last], checkpoints.trusted_keys())
    except checkpoints.Misfit as misfit:
        problem = str(misfit)
    return Signed(last.seq, datetime.fromisoformat(last.at), last.key_id, max(0, head - last.seq), problem)
