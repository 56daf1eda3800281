"""The demo's live traffic: worker -> selection -> provider -> telemetry, over HTTP, as a worker of yours would.

Two streams: the timeline of recorded outcomes goes on, so that every profile stays measured; and
conversations of a few turns run through the reference worker, against a provider that answers with what
the chosen model did, and as slowly as it did, when it was recorded on the same kind of task.
"""

import json
import logging
import random
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path

from demo import timeline
from demo.outcomes import Outcome, slug
from demo.provider import Behaviour, DemoProvider
from worker.conversation import Judgement, Message
from worker.providers import Completion
from worker.runtime import Worker
from worker.settings import Settings, load_settings

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 2.0
_BATCH = 500
#: A conversation begins every period, and has as many turns as it is said here.
_TURNS = (2, 3, 4)
#: Conversations at once; a recorded call takes seconds to minutes.
_MOST = 48
#: Whose conversations every second one is of: one busy scope has its held-out conversations, and so its savings, soon.
_BUSIEST = ("aurora", "support-agent")
#: Sold through OpenRouter, which tells what it billed.
BILLED = ("DeepSeek V3.2", "Llama 3.3 70B", "GPT-OSS 120B")


class LiveTraffic(threading.Thread):
    """Runs until ``stop`` is called. ``folder`` keeps the worker's state; ``latency_scale`` 1 is as recorded."""

    def __init__(
        self, url: str, key: str, clock: Callable[[], datetime], folder: Path, latency_scale: float = 1
    ) -> None:
        super().__init__(name="live-traffic", daemon=True)
        # The address of every request is no news.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._url = url
        self._key = key
        self._clock = clock
        self._since = clock()
        self._stopping = threading.Event()
        self._random = random.Random()  # noqa: S311  # which conversation comes next is no secret
        self._running = threading.BoundedSemaphore(_MOST)
        self._provider = DemoProvider(behaviour=Behaviour(latency_scale=latency_scale), keep=0)
        for model in BILLED:
            self._provider.behave(slug(model), bill=True)
        self._worker = Worker(worker_settings(url, key, self._provider.start(), folder), judge=as_recorded)

    def stop(self) -> None:
        """Ask it to end, and wait while its last request does (a few seconds at most). Conversations that
        wait for an answer are left where they are, as a killed worker would leave them."""
        self._stopping.set()
        self.join(5)
        self._worker.close()
        # Calls that ended now would read as failures of their profiles.
        self._provider.stop(end_calls=False)

    def run(self) -> None:
        while not self._stopping.wait(_PERIOD_SECONDS):
            self._begin()
            try:
                self._replay()
            except (OSError, ValueError) as error:
                # What was not sent stays due: the next tick starts from the same time.
                log.warning("live traffic: %s", error)

    def _replay(self) -> None:
        now = self._clock()
        due = timeline.events(self._since, now)
        while batch := list(islice(due, _BATCH)):
            self._post("/api/v1/telemetry/completions", batch)
        self._since = now

    def _begin(self) -> None:
        if not self._running.acquire(blocking=False):
            return
        tenant, recorded = self._next()
        turns = self._random.choice(_TURNS)
        threading.Thread(
            target=self._converse, args=(tenant, recorded, turns), name="live-conversation", daemon=True
        ).start()

    def _next(self) -> tuple[str, Outcome]:
        """The tenant and the recorded call that a conversation is made from."""
        everything = timeline.cycle()
        if self._random.random() < 0.5:
            return self._random.choice(everything)
        return self._random.choice([one for one in everything if (one[0], one[1].persona) == _BUSIEST])

    def _converse(self, tenant: str, recorded: Outcome, turns: int) -> None:
        conversation = f"live-{uuid.uuid4()}"
        said: list[dict[str, str]] = []
        try:
            for turn in range(1, turns + 1):
                said.append({"role": "user", "content": f"{recorded.prompt_id}, turn {turn}"})
                message = Message(
                    tenant=tenant,
                    persona=recorded.persona,
                    conversation_id=conversation,
                    message_id=str(turn),
                    messages=tuple(said),
                    task=recorded.category,
                )
                answer = self._worker.conversations.answer(message)
                if answer.text is None or self._stopping.is_set():
                    return
                said.append({"role": "assistant", "content": answer.text})
        except Exception:
            # While it stops, the worker is closed under a conversation's feet.
            if not self._stopping.is_set():
                log.exception("a live conversation failed")
        finally:
            self._running.release()

    def _post(self, path: str, body: object) -> None:
        request = urllib.request.Request(  # noqa: S310  # our own loopback address
            self._url + path,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Api-Key {self._key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            response.read()


def worker_settings(url: str, key: str, provider_url: str, folder: Path) -> Settings:
    """Of a worker at the service ``url`` whose every provider is the demo's."""
    return load_settings(
        api_url=url,
        api_key=key,
        state_dir=folder,
        default_profile={
            "slug": "gpt-5.4",
            "provider": "openai",
            "model": "gpt-5.4",
            "base_url": "https://api.openai.com/v1",
        },
        provider_urls={"*": provider_url},
        provider_metadata=True,
        # Recorded calls take up to minutes; those that take longer than this fail, as they would.
        provider_timeout_seconds=120,
        budget_seconds=200,
        # One process does everything here, so it may be busy when it is asked.
        connect_timeout_ms=500,
        read_timeout_ms=2000,
    )


def as_recorded(_: Message, completion: Completion) -> Judgement:
    """The answer is worth what it was when it was recorded."""
    recorded = completion.answer.extra["recorded"]
    return Judgement(
        success=recorded["success"],
        accuracy=recorded["score"],
        safety_violation=recorded["safety_violation"],
    )
