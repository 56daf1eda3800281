"""The selection client, sync and async: a profile for every conversation, always, in bounded time.

Asks the service (or decides with its policy bundle when EVALUATION is local); when that fails, decides with
the last-known-good bundle; when there is none, gives the configured default. ``select`` never raises.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Self

import httpx

from worker.bounded import BoundedCaller
from worker.outbox import DecisionWriter, Outbox
from worker.policy_cache import PolicyCache
from worker.selecting import CLIENT_DEFAULT, Ask, Selected, Selecting, Source
from worker.settings import Evaluation, Profile, Settings
from worker.wire import DIRECT, Problem, Reply, exchange, exchange_async, headers, named, timeouts

__all__ = [
    "CLIENT_DEFAULT",
    "AsyncSelectionClient",
    "Problem",
    "Profile",
    "Selected",
    "SelectionClient",
    "Source",
]

#: Requests to the service at once; callers beyond that wait within their own time.
_AT_ONCE = 64


class _Client:
    """What both have: the bundle's refresh, and the writer of local decisions. Made once per process."""

    def __init__(
        self, settings: Settings, outbox: Outbox, clock: Callable[[], datetime] | None = None
    ) -> None:
        self.settings = settings
        self.policy = PolicyCache(settings)
        self._selecting = Selecting(settings, self.policy, clock)
        self._writer = DecisionWriter(self._selecting.decided, outbox)
        self._url = f"{settings.api_url}/api/v1/selections"
        self._timeout = timeouts(settings.connect_timeout_ms / 1000, settings.read_timeout_ms / 1000)
        self._local = settings.evaluation is Evaluation.LOCAL
        self.policy.start()
        self._writer.start()

    def wait_ready(self, seconds: float) -> bool:
        """Whether a bundle came from the service within the time: for starting, not needed for selecting."""
        return self.policy.wait(seconds)

    def _stop(self) -> None:
        self.policy.close()
        self._writer.close()


def _ask(
    tenant: str, persona: str, conversation_id: str, task: str, exclude: Iterable[str], request_id: str | None
) -> Ask:
    return Ask(tenant, persona, conversation_id, task, tuple(exclude or ()), request_id)


class SelectionClient(_Client):
    """Thread-safe. Close it, or use it as a context manager."""

    def __init__(
        self, settings: Settings, outbox: Outbox, clock: Callable[[], datetime] | None = None
    ) -> None:
        super().__init__(settings, outbox, clock)
        self._caller = BoundedCaller(_AT_ONCE, "selection")
        self._http = httpx.Client(
            headers=headers(settings.api_key),
            timeout=self._timeout,
            mounts=dict(DIRECT),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_AT_ONCE),
        )

    def select(
        self,
        tenant: str,
        persona: str,
        conversation_id: str,
        task: str = "general",
        exclude: Iterable[str] = (),
        request_id: str | None = None,
    ) -> Selected:
        """A profile, within ``settings.bound_seconds`` (0.3 by default), whatever is down. Never raises."""
        ask = _ask(tenant, persona, conversation_id, task, exclude, request_id)
        try:
            if self._local:
                return self._selecting.here(ask)
            with self._selecting.breaker.calling():
                reply = self._caller.call(lambda: self._post(ask), self.settings.remote_seconds)
                return self._selecting.answered(ask, reply)
        except Exception as error:  # noqa: BLE001  # told and answered there, whatever it is
            return self._selecting.instead(ask, error)

    def close(self) -> None:
        """Local decisions that wait are written to the outbox first."""
        self._stop()
        self._caller.close()
        self._http.close()

    def _post(self, ask: Ask) -> Reply:
        request = self._http.build_request("POST", self._url, json=ask.body(), headers=named(ask.request_id))
        return exchange(self._http, request, self.settings.remote_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSelectionClient(_Client):
    """The same for asyncio; made and used in one event loop. Close it, or use it as a context manager."""

    def __init__(
        self, settings: Settings, outbox: Outbox, clock: Callable[[], datetime] | None = None
    ) -> None:
        super().__init__(settings, outbox, clock)
        self._http = httpx.AsyncClient(
            headers=headers(settings.api_key),
            timeout=self._timeout,
            mounts=dict(DIRECT),
            limits=httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE),
        )

    async def select(
        self,
        tenant: str,
        persona: str,
        conversation_id: str,
        task: str = "general",
        exclude: Iterable[str] = (),
        request_id: str | None = None,
    ) -> Selected:
        """A profile, within ``settings.bound_seconds`` (0.3 by default), whatever is down. Never raises,
        but for being cancelled."""
        ask = _ask(tenant, persona, conversation_id, task, exclude, request_id)
        try:
            if self._local:
                return self._selecting.here(ask)
            with self._selecting.breaker.calling():
                reply = await asyncio.wait_for(self._post(ask), self.settings.remote_seconds)
                return self._selecting.answered(ask, reply)
        except Exception as error:  # noqa: BLE001  # told and answered there, whatever it is
            return self._selecting.instead(ask, error)

    async def close(self) -> None:
        """Local decisions that wait are written to the outbox first."""
        await asyncio.to_thread(self._stop)
        await self._http.aclose()

    async def _post(self, ask: Ask) -> Reply:
        request = self._http.build_request("POST", self._url, json=ask.body(), headers=named(ask.request_id))
        return await exchange_async(self._http, request)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
