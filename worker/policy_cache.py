"""The last-known-good policy bundle: in memory for decisions, on disk for the next start.

A daemon thread asks for a newer one by ETag. What is damaged, foreign or unreadable is refused with a log
line, and the last good one stays.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import httpx
import orjson

from routing.engine import Bundle
from worker.settings import Profile, Settings
from worker.wire import DIRECT, NotAnswered, exchange, headers, problem_of, timeouts

log = logging.getLogger(__name__)

FILE = "policy.bundle"
#: A bundle may be large and is fetched behind everybody's back: it may take longer than a selection.
_FETCH_SECONDS = 10.0


class Damaged(Exception):
    """The file cannot be used; the message says why."""


@dataclass(frozen=True)
class Policy:
    """A bundle and where it stands: its ETag, and when it was last known to be the service's (UTC)."""

    bundle: Bundle
    etag: str
    fetched_at: datetime

    @cached_property
    def profiles(self) -> Mapping[str, Profile]:
        """Those that may be called, as workers call them."""
        return {
            slug: Profile.model_construct(
                slug=slug,
                provider=profile.provider,
                model=profile.model,
                base_url=profile.base_url.rstrip("/"),
            )
            for slug, profile in self.bundle.usable.items()
        }


def _now() -> datetime:
    return datetime.now(UTC)


class PolicyCache:
    """``current`` is a plain attribute, swapped whole: reading it takes no lock and no I/O."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = _now) -> None:
        self._settings = settings
        self._clock = clock
        self._path = settings.state_dir / FILE
        self._stopping = threading.Event()
        self._fetched = threading.Event()
        self._complained = ""
        self._client = httpx.Client(
            headers=headers(settings.api_key), timeout=timeouts(1.0, 5.0), mounts=dict(DIRECT)
        )
        self._thread = threading.Thread(target=self._run, name="policy-refresh", daemon=True)
        self.current: Policy | None = load(self._path, settings.api_url)

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether a bundle came from the service within the time; for starting up, never for selecting."""
        return self._fetched.wait(seconds)

    def close(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(0.5)
        self._client.close()

    def refresh(self) -> bool:
        """Ask once; whether the service was reached and its bundle is the current one."""
        try:
            self._refresh()
        except (NotAnswered, Damaged, OSError) as error:
            self._complain(str(error))
            return False
        self._complained = ""
        self._fetched.set()
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.refresh()
            except Exception:
                if not self._stopping.is_set():
                    log.exception("the policy bundle could not be refreshed")
            self._stopping.wait(self._settings.policy_refresh_seconds)

    def _refresh(self) -> None:
        etag = {"If-None-Match": self.current.etag} if self.current and self.current.etag else {}
        request = self._client.build_request("GET", f"{self._settings.api_url}/api/v1/policy", headers=etag)
        reply = exchange(self._client, request, _FETCH_SECONDS)
        now = self._clock()
        if reply.status == 304 and self.current:
            self.current = replace(self.current, fetched_at=now)
            # The file's own time says until when it was the service's, without writing it again.
            with suppress(OSError):
                os.utime(self._path)
            return
        if reply.status != 200:
            problem = problem_of(reply)
            raise NotAnswered(f"status {problem.status}, {problem.code}: {problem.detail}")
        policy = Policy(_parse(reply.body), reply.headers.get("etag", ""), now)
        # Everything that can be worked out before the first decision is, here and not there.
        _ = policy.profiles
        self.current = policy
        save(self._path, policy, reply.body, self._settings.api_url)
        log.debug("policy bundle %s", policy.bundle.version)

    def _complain(self, why: str) -> None:
        # Once per cause, not every two seconds through an outage.
        if why != self._complained:
            self._complained = why
            log.warning("no newer policy bundle: %s", why)


def _parse(body: bytes) -> Bundle:
    try:
        return Bundle.from_dict(orjson.loads(body))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"the bundle cannot be read: {type(error).__name__}: {error}") from None


def save(path: Path, policy: Policy, body: bytes, api_url: str) -> None:
    """Checksum, description, body; whole or not at all, whenever the process or the machine dies."""
    about = {
        "api_url": api_url,
        "etag": policy.etag,
        "fetched_at": policy.fetched_at.isoformat(),
        "version": policy.bundle.version,
    }
    content = orjson.dumps(about) + b"\n" + body
    # One name per process: several may share the folder.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path, api_url: str) -> Policy:
    """Raises Damaged, and FileNotFoundError when there is none yet."""
    checksum, _, content = path.read_bytes().partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise Damaged("its checksum does not match")
    line, _, body = content.partition(b"\n")
    try:
        about = orjson.loads(line)
        service, etag = about["api_url"], about["etag"]
        fetched_at = datetime.fromisoformat(about["fetched_at"])
    except (KeyError, TypeError, ValueError):
        raise Damaged("its first lines cannot be read") from None
    # A folder that was used with a test system, say: its catalogue must not decide here.
    if service != api_url:
        raise Damaged(f"it is of another service, {service}")
    return Policy(_parse(body), etag, fetched_at)


def load(path: Path, api_url: str) -> Policy | None:
    """The bundle on disk; None when there is none that can be used, which is not fatal but logged."""
    try:
        policy = read(path, api_url)
    except FileNotFoundError:
        return None
    except (Damaged, OSError) as error:
        log.warning("the policy bundle on disk is not used: %s", error)
        return None
    _ = policy.profiles
    return policy
