"""Whether this process can decide and record: asked by load balancers, so never green while it starves."""

import logging
import os
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError
from redis.exceptions import RedisError

from catalog.versions import current_version
from observability import heartbeats
from observability.models import Heartbeat
from routing.bundle import bundle_behind_seconds, current_bundle
from routing.health import FlagSafety, flag_safety

log = logging.getLogger(__name__)

#: A change of policy is in effect within 5 s; who is so much later is not able to.
BEHIND_SECONDS = 15.0
#: A query by primary key that takes so long waits for a connection, or for a database that cannot keep up.
SLOW_SECONDS = 2.0
#: Below this neither journal nor database can be written to for long.
DISK_LEAST_BYTES = 64 * 1024 * 1024
_DISK_KEPT_SECONDS = 5.0

Check = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Readiness:
    """``checks`` by name, each with ``ok``; ``ready``: those that count are."""

    ready: bool
    checks: dict[str, Check]


def read_readiness(now: datetime, full: bool = False) -> Readiness:
    """Ask everything, in at most a few seconds. Flag, cache and (``full``) beat and workers are told, and do not count:
    decisions go on without them. Names no tenant and no host."""
    database = _database()
    policy, safety = _policy(now, database["ok"])
    checks = {"database": database, "policy": policy, "disk": disk.check()}
    ready = all(check["ok"] for check in checks.values())
    if safety is not None:
        checks["flag"] = _flag(safety)
    if settings.ENV.redis_url:
        checks["cache"] = _cache()
    if full and database["ok"]:
        checks |= {kind.value: _process(kind, now) for kind in Heartbeat.Kind}
    return Readiness(ready, checks)


def _database() -> Check:
    began = time.monotonic()
    try:
        version = current_version()
    except DatabaseError:
        return {"ok": False}
    seconds = time.monotonic() - began
    return {"ok": seconds <= SLOW_SECONDS, "policy_version": version, "seconds": round(seconds, 3)}


def _policy(now: datetime, database_answers: bool) -> tuple[Check, FlagSafety | None]:
    try:
        bundle = current_bundle()
        safety = flag_safety(bundle, now) if database_answers else None
    except DatabaseError:
        return {"ok": False}, None
    except Exception:  # whatever it is, without a bundle nothing is decided
        log.exception("there is no policy bundle")
        return {"ok": False}, None
    behind = bundle_behind_seconds()
    check = {
        "ok": behind <= BEHIND_SECONDS,
        "bundle_version": bundle.version,
        "behind_seconds": round(behind, 1),
    }
    return check, safety


def _flag(safety: FlagSafety) -> Check:
    return {
        "ok": safety.is_safe,
        "on": safety.on,
        "telemetry": safety.freshness.value,
        "cause": safety.cause,
        "detail": None if safety.is_safe else safety.sentence(),
    }


def _cache() -> Check:
    try:
        cache.get("readiness")
    except (RedisError, OSError):
        return {"ok": False}
    return {"ok": True}


def _process(kind: Heartbeat.Kind, now: datetime) -> Check:
    pulse = heartbeats.last(kind)
    return {
        "ok": not pulse.is_silent(now),
        "silent_seconds": pulse.silent_seconds(now),
        "lag_seconds": pulse.lag_seconds,
    }


class Disk:
    """Whether DATA_DIR takes what the journal would write. Tried at most every few seconds, whoever asks."""

    def __init__(self) -> None:
        self._checked_at = float("-inf")
        self._found: Check = {"ok": False}

    def check(self) -> Check:
        now = time.monotonic()
        if now - self._checked_at >= _DISK_KEPT_SECONDS:
            self._found, self._checked_at = self._try(), now
        return self._found

    def forget(self) -> None:
        """Look again next time (tests change the folder)."""
        self._checked_at = float("-inf")

    def _try(self) -> Check:
        # Where the journal is: it may be a disk of its own.
        path = settings.DATA_DIR / "journal" / f".probe-{os.getpid()}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"ok")
            path.unlink()
            free = free_bytes()
        except OSError as error:
            return {"ok": False, "error": error.strerror}
        return {"ok": free >= DISK_LEAST_BYTES, "free_bytes": free}


def free_bytes() -> int:
    """What is left for this process's user on the disk of DATA_DIR. Raises OSError."""
    state = os.statvfs(settings.DATA_DIR)
    return state.f_bavail * state.f_frsize


disk = Disk()
