"""The policy bundle of this process: built from the database when the policy changed, else kept.

A request looks at two numbers at most every BUNDLE_REFRESH_SECONDS; a decision itself reads nothing.
While the database is away the last bundle stands.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from catalog.models import ModelProfile, Persona, ScopeDefault, Tenant
from catalog.outage import outage
from catalog.versions import current_version
from overrides import selectors
from overrides.flags import read_flag
from routing.archive import DamagedArchiveError, keep_policy, read_snapshot
from routing.engine import (
    Bundle,
    BundlePersona,
    BundleProfile,
    BundleSnapshot,
    BundleTenant,
    FlagState,
    Standing,
    StandingOverride,
)
from routing.models import ScoreSnapshot
from routing.snapshots import newest_id
from routing.standing import Kind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Version:
    """What a bundle was built from."""

    policy: int
    snapshot: int | None


class BundleKeeper:
    """Keeps one bundle; ``current`` is safe to call from many threads, one of which rebuilds."""

    def __init__(self, refresh_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._refresh_seconds = refresh_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._bundle: Bundle | None = None
        self._version: _Version | None = None
        self._checked_at = float("-inf")

    def current(self) -> Bundle:
        """The bundle, at most ``refresh_seconds`` behind the database. Raises DatabaseError only when
        there has never been one."""
        bundle = self._bundle
        if bundle is not None and self._monotonic() - self._checked_at < self._refresh_seconds:
            return bundle
        # Of many threads one looks; the others go on with what there is, unless there is nothing yet.
        if not self._lock.acquire(blocking=bundle is None):
            assert bundle is not None  # noqa: S101  # for the type checker: non-blocking only with a bundle
            return bundle
        try:
            return self._refresh()
        finally:
            self._lock.release()

    def _refresh(self) -> Bundle:
        if self._bundle is not None and self._monotonic() - self._checked_at < self._refresh_seconds:
            return self._bundle
        try:
            with outage.watch():
                version = _Version(current_version(), newest_id())
                if self._bundle is None or version != self._version:
                    self._bundle, self._version = build(version, self._bundle)
        except DatabaseError as error:
            if self._bundle is None:
                raise
            log.error("the policy bundle could not be refreshed; the last one stands: %s", error)
        self._checked_at = self._monotonic()
        return self._bundle


def build(version: _Version, last: Bundle | None) -> tuple[Bundle, _Version]:
    """Read catalogue, flag and snapshot, and archive the policy. A damaged snapshot is left out in favour of
    the last good one. Returns the bundle with what it was really built from."""
    policy = _read_policy()
    # A change in the midst of reading shows as another version afterwards: then it is read again.
    for _ in range(5):
        if (now := current_version()) == version.policy:
            break
        version = _Version(now, version.snapshot)
        policy = _read_policy()
    snapshot = _snapshot(version.snapshot, last)
    name = keep_policy(version.policy, _without_snapshot(policy), timezone.now())
    full = f"{name}.{snapshot.id if snapshot else 0}"
    return replace(policy, version=full, snapshot=snapshot), version


def _without_snapshot(policy: Bundle) -> dict[str, Any]:
    told = policy.to_dict()
    del told["snapshot"], told["version"]
    return told


def _read_policy() -> Bundle:
    flag = read_flag()
    personas = Persona.objects.select_related("default_profile")
    defaults = ScopeDefault.objects.values_list("tenant__slug", "persona__slug", "profile__slug")
    return Bundle(
        version="",
        tenants={t.slug: BundleTenant(t.slug, t.enabled) for t in Tenant.objects.all()},
        personas={p.slug: _persona(p) for p in personas},
        scope_defaults={(tenant, persona): profile for tenant, persona, profile in defaults},
        profiles={p.slug: _profile(p) for p in ModelProfile.objects.all()},
        enabled_tiers=settings.ENABLED_TIERS,
        flag=FlagState(everyone=flag.everyone, percent=flag.percent, tenants=flag.tenants, salt=flag.salt),
        snapshot=None,
        standing=_standing(),
    )


def _standing() -> Standing:
    killed_all, killed = selectors.killed()
    # What expires later is left to the clock of each decision.
    rows = selectors.standing(timezone.now()).order_by("id")
    return Standing(
        overrides=tuple(
            StandingOverride(
                id=row.pk,
                kind=Kind(row.kind),
                profile=row.profile.slug,
                tenant=row.tenant.slug if row.tenant else None,
                persona=row.persona.slug if row.persona else None,
                task=row.task,
                expires_at=row.expires_at,
            )
            for row in rows
        ),
        killed=killed,
        killed_all=killed_all,
    )


def _persona(persona: Persona) -> BundlePersona:
    return BundlePersona(
        slug=persona.slug,
        enabled=persona.enabled,
        default_profile=persona.default_profile.slug,
        exploration_share=float(persona.exploration_share),
        holdout_share=float(persona.holdout_share),
        switch_margin=float(persona.switch_margin),
    )


def _profile(profile: ModelProfile) -> BundleProfile:
    return BundleProfile(
        slug=profile.slug,
        provider=profile.provider,
        model=profile.model,
        base_url=profile.base_url,
        tier=profile.tier,
        enabled=profile.enabled,
        context_window=profile.context_window,
    )


def _snapshot(pk: int | None, last: Bundle | None) -> BundleSnapshot | None:
    stored = ScoreSnapshot.objects.filter(pk=pk).first() if pk is not None else None
    if stored is None:
        return None
    try:
        return read_snapshot(stored)
    except DamagedArchiveError as error:
        log.error("%s The last good one stands.", error)  # the sentence says it all
        return last.snapshot if last else None


_keeper: BundleKeeper | None = None
_keeper_lock = threading.Lock()


def current_bundle() -> Bundle:
    """The bundle of this process."""
    global _keeper
    with _keeper_lock:
        if _keeper is None:
            _keeper = BundleKeeper(settings.BUNDLE_REFRESH_SECONDS)
        keeper = _keeper
    return keeper.current()


def forget_bundle() -> None:
    """Drop the kept bundle; the next call builds one (for tests, whose databases repeat versions)."""
    global _keeper
    with _keeper_lock:
        _keeper = None
