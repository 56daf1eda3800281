"""The policy bundle of this process: built from the database when the policy changed, else kept.

A request looks at two numbers at most every BUNDLE_REFRESH_SECONDS; a decision itself reads nothing. When
they differ, a thread builds the next bundle while the last one serves. While the database is away the last
bundle stands.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connections
from django.utils import timezone

from catalog.outage import give_back_connection, outage
from catalog.versions import current_version, policy_changed
from config.memory import give_back
from routing.archive import DamagedArchiveError, keep_policy, read_snapshot
from routing.courtesy import giving_way
from routing.engine import Bundle, BundleSnapshot
from routing.models import ScoreSnapshot
from routing.parts import Part, divide
from routing.reading import read_policy
from routing.snapshots import newest_id

log = logging.getLogger(__name__)

#: A bundle that was the newest this long ago is too old to serve by: a change is in effect within 5 s.
LATE_SECONDS = 4.0
#: How long requests wait for the next bundle then. After it the last one serves, late or not.
PATIENCE_SECONDS = 2.0
#: How many snapshots are looked at, the newest first, until one is found intact.
_TRIED = 10

Work = Callable[[], None]


def at_once(work: Work) -> None:
    """Run it here; who asks waits."""
    work()


def apart(work: Work) -> None:
    """Run it in a thread of its own, which leaves no database connection behind."""

    def run() -> None:
        try:
            with giving_way():
                work()
        finally:
            connections.close_all()
            give_back()

    threading.Thread(target=run, name="policy-bundle", daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Version:
    """What a bundle is built from."""

    policy: int
    snapshot: int | None


@dataclass(frozen=True, slots=True)
class _Built:
    """A bundle, what it was really built from, and its overrides as they are archived."""

    bundle: Bundle
    version: _Version
    parts: tuple[Part, ...]


class BundleKeeper:
    """Keeps one bundle. ``current`` is safe to call from many threads. ``run`` runs a rebuild."""

    def __init__(
        self,
        refresh_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
        run: Callable[[Work], None] = at_once,
    ) -> None:
        self._refresh_seconds = refresh_seconds
        self._monotonic = monotonic
        self._run = run
        self._looking = threading.Lock()
        self._building = threading.Lock()
        self._idle = threading.Event()
        self._built: _Built | None = None
        self._failed = False
        self._checked_at = self._newest_at = self._began_at = float("-inf")

    def current(self) -> Bundle:
        """The bundle, at most 5 s behind the database. Raises DatabaseError only when there has never been one;
        that one is built by whoever asks first, while the others wait."""
        if self._built is None:
            self._build_first()
        # Of many threads one looks; the others go on with what there is.
        elif self._is_due() and self._looking.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._looking.release()
        self._wait_when_late()
        assert self._built is not None  # noqa: S101  # for the type checker: built, or an error was raised
        return self._built.bundle

    def behind_seconds(self) -> float:
        """How long ago the bundle was last known to be the newest. Grows while the database is away, while rebuilds
        fail, and while nobody asks for the bundle."""
        return self._monotonic() - self._newest_at

    def policy_changed(self) -> None:
        """This process changed the policy: build at once, unless that has just been done; then the next look does."""
        if self._built is not None and self._monotonic() - self._began_at >= self._refresh_seconds:
            self._start()

    def caught_up(self, patience: float) -> Bundle:
        """For whoever just changed the policy and shows what came of it: the bundle with that change in it, or after
        ``patience`` seconds the last one there is. Raises as ``current``."""
        until = self._monotonic() + patience
        bundle = self.current()
        wanted = current_version()
        while self._built is not None and self._built.version.policy < wanted:
            left = until - self._monotonic()
            if left <= 0 or self._failed:
                return bundle
            self._start()
            self._idle.wait(left)
        return self._built.bundle if self._built is not None else bundle

    def _is_due(self) -> bool:
        return self._monotonic() - self._checked_at >= self._refresh_seconds

    def _build_first(self) -> None:
        # Many may wait here: none of them keeps a connection from whoever builds, or from each other.
        give_back_connection()
        with self._looking:
            if self._built is None:
                began = self._monotonic()
                with outage.watch():
                    self._built = build(None)
                give_back()
                give_back_connection()
                self._checked_at = self._newest_at = began

    def _look(self) -> None:
        if self._building.locked():
            return
        began = self._monotonic()
        try:
            with outage.watch():
                version = _Version(current_version(), newest_id())
        except DatabaseError as error:
            log.error("whether the policy changed could not be read; the last bundle stands: %s", error)
        else:
            if self._built is not None and version == self._built.version:
                self._newest_at = began
            else:
                self._start()
        finally:
            give_back_connection()
        self._checked_at = self._monotonic()

    def _start(self) -> None:
        if not self._building.acquire(blocking=False):
            return
        self._idle.clear()
        self._began_at = self._monotonic()
        try:
            self._run(self._rebuild)
        except RuntimeError as error:  # no thread can be started
            log.error("the policy bundle could not be rebuilt; the last one stands: %s", error)
            self._end()

    def _rebuild(self) -> None:
        failed = True
        try:
            with outage.watch():
                self._built = build(self._built)
            self._newest_at, failed = self._began_at, False
        except DatabaseError as error:
            log.error("the policy bundle could not be rebuilt; the last one stands: %s", error)
        except Exception:  # whatever it is, requests go on, and the next look tries again
            log.exception("the policy bundle could not be rebuilt; the last one stands")
        finally:
            self._failed = failed
            self._end()

    def _end(self) -> None:
        self._building.release()
        self._idle.set()

    def _wait_when_late(self) -> None:
        """After a quiet time the last bundle may be of any age: then the rebuild is waited for, but not for long, and
        not for one that failed a moment ago."""
        late = self._began_at - self._newest_at >= LATE_SECONDS
        if not late or self._failed or not self._building.locked():
            return
        patience = self._began_at + PATIENCE_SECONDS - self._monotonic()
        if patience > 0:
            self._idle.wait(patience)


def build(last: _Built | None) -> _Built:
    """Read catalogue, flag, overrides and snapshot, and archive the policy; what is as in ``last`` is used again. A
    damaged snapshot is left out in favour of the last good one."""
    began = time.monotonic()
    version = _Version(current_version(), newest_id())
    if last is not None and version.policy == last.version.policy:
        policy, parts = last.bundle, last.parts
        name = policy.version.rpartition(".")[0]
    else:
        policy, version = _read_steadily(last, version)
        parts = divide(policy.standing.overrides, last.parts if last else ())
        name = keep_policy(version.policy, policy, timezone.now(), parts)
    snapshot = _snapshot(version.snapshot, last)
    bundle = replace(policy, version=f"{name}.{snapshot.id if snapshot else 0}", snapshot=snapshot)
    if last is not None:
        bundle.keep_views_of(last.bundle)
    log.info("policy bundle built: %s in %.0f ms", bundle.version, (time.monotonic() - began) * 1000)
    return _Built(bundle, version, parts)


def _read_steadily(last: _Built | None, version: _Version) -> tuple[Bundle, _Version]:
    known = last.bundle if last else None
    policy = read_policy(known, timezone.now())
    # A change in the midst of reading shows as another version afterwards: then it is read again.
    for _ in range(5):
        if (now := current_version()) == version.policy:
            break
        version = _Version(now, version.snapshot)
        policy = read_policy(policy, timezone.now())
    return policy, version


def _snapshot(pk: int | None, last: _Built | None) -> BundleSnapshot | None:
    known = last.bundle.snapshot if last else None
    if known is not None and known.id == str(pk):
        return known
    if pk is None:
        return None
    newest = ScoreSnapshot.objects.filter(pk__lte=pk).order_by("-pk").values_list("pk", flat=True)[:_TRIED]
    for one in newest:
        if known is not None and known.id == str(one):
            break
        # One by one: each may be tens of megabytes, and the first is nearly always intact.
        stored = ScoreSnapshot.objects.filter(pk=one).first()
        try:
            if stored is not None:
                return read_snapshot(stored)
        except DamagedArchiveError as error:
            log.error("%s The last good one stands.", error)  # the sentence says it all
    return known


_keeper: BundleKeeper | None = None
_keeper_lock = threading.Lock()
#: How this process rebuilds; tests, whose transactions no other thread sees, do it at once.
run: Callable[[Work], None] = apart


def current_bundle() -> Bundle:
    """The bundle of this process."""
    keeper = _keeper
    return keeper.current() if keeper is not None else _kept().current()


def caught_up_bundle(patience: float = 3.0) -> Bundle:
    """The bundle of this process with everything that is committed by now in it, waited for so many seconds."""
    return _kept().caught_up(patience)


def bundle_behind_seconds() -> float:
    """How far the bundle of this process is behind the database, as far as it knows; infinite: there is none."""
    return _kept().behind_seconds()


def _kept() -> BundleKeeper:
    global _keeper
    with _keeper_lock:
        if _keeper is None:
            _keeper = BundleKeeper(settings.BUNDLE_REFRESH_SECONDS, run=run)
        return _keeper


def forget_bundle() -> None:
    """Drop the kept bundle; the next call builds one (for tests, whose databases repeat versions)."""
    global _keeper
    with _keeper_lock:
        _keeper = None


def _policy_changed(**_: Any) -> None:
    if (keeper := _keeper) is not None:
        keeper.policy_changed()


def _after_fork() -> None:
    # A thread of the parent's that was at it is not here, and a lock that it held is never released.
    global _keeper, _keeper_lock
    _keeper, _keeper_lock = None, threading.Lock()


policy_changed.connect(_policy_changed, dispatch_uid="routing.bundle")
os.register_at_fork(after_in_child=_after_fork)
