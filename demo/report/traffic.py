"""The load: conversations of a few turns, held through the reference worker against the demo's provider."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from demo import timeline
from demo.live import BILLED, as_recorded, worker_settings
from demo.outcomes import load, slug
from demo.provider import Behaviour, DemoProvider
from worker.conversation import Conversations, Judgement, Message
from worker.outbox import Kind, Outbox
from worker.providers import Completion
from worker.runtime import Worker

#: As many turns as these has a conversation, each as often.
TURNS = (1, 2, 3)
#: Conversations at once. More would wait for this process's cores, and that would be taken for latency.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation to be held: ``turns`` messages of one task."""

    name: str
    tenant: str
    persona: str
    task: str
    turns: int


def talks(phase: str, count: int, seed: int) -> list[Talk]:
    """Every tenant as often, since the demo's smallest would tell nothing otherwise; tasks as often as they were
    recorded. Each phase of a seed has the same conversations, by other names."""
    return list(islice(_drawn(phase, seed), count))


def _drawn(phase: str, seed: int) -> Iterator[Talk]:
    chance = random.Random(f"talks/{seed}")  # noqa: S311  # reproducible on purpose
    number = 0
    while True:
        number += 1
        tenant, recorded = chance.choice(timeline.TRAFFIC).tenant, chance.choice(load())
        name = f"{phase}-{seed}-{number:05}"
        yield Talk(name, tenant, recorded.persona, recorded.category, chance.choice(TURNS))


class Load:
    """A worker at the service ``url`` and a provider that answers ``speed`` times as fast as was recorded. Latencies
    and time limits are stretched and cut likewise, so that they are reported as if nobody had hurried."""

    def __init__(self, url: str, key: str, folder: Path, speed: float, seed: int) -> None:
        self._speed = speed
        # Every call is kept, to compare its latency with the recorded one.
        self._provider = DemoProvider(
            behaviour=Behaviour(latency_scale=1 / speed), seed=seed, by_message=True, keep=10_000_000
        )
        for model in BILLED:
            self._provider.behave(slug(model), bill=True)
        usual = worker_settings(url, key, self._provider.start(), folder)
        hurried = {
            "provider_timeout_seconds": usual.provider_timeout_seconds / speed,
            "budget_seconds": usual.budget_seconds / speed,
        }
        self._worker = Worker(usual.model_copy(update=hurried))
        self._outbox = StretchedOutbox(folder, speed)
        self._conversations = Conversations(
            self._worker.settings, self._worker.client, self._worker.providers, self._outbox, self._judge
        )
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._measured: dict[tuple[str, str], float] = {}
        #: Who chose: the service, or the worker by itself.
        self.sources: Counter[str] = Counter()

    def hold(self, talks: Iterable[Talk], tick: Callable[[], None]) -> None:
        """All of these conversations; ``tick`` after each. Then everything is reported to the service."""
        executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="talk")
        try:
            for done in as_completed([executor.submit(self.converse, talk) for talk in talks]):
                done.result()
                tick()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
        self.flush()

    def flush(self) -> None:
        """Report to the service all that waits; returns when nothing does."""
        while sum(self._outbox.backlog().waiting.values()):
            if not self._worker.flusher.flush() and (failure := self._worker.flusher.failure):
                # Its own thread may be sending just now; anything else shall be told, not waited for.
                logging.getLogger(__name__).warning("completions wait: %s", failure)
                self._stopping.wait(0.5)

    def reported(self) -> int:
        """How many completions the worker reported."""
        return self._outbox.completions

    def refused(self) -> int:
        """How many of its reports the service refused."""
        return self._outbox.backlog().refused

    def delays_ms(self) -> list[float]:
        """Of each answered call, its latency as measured less as recorded, in milliseconds: what this run adds."""
        recorded = {
            (call.model, str(call.messages[-1]["content"])): call.outcome.latency_ms
            for call in self._provider.calls
            if call.outcome
        }
        return [measured - recorded[key] for key, measured in self._measured.items()]

    def close(self) -> None:
        """Calls that run are ended."""
        self._stopping.set()
        self._provider.stop()
        self._worker.close()
        self._outbox.close()

    def converse(self, talk: Talk) -> None:
        """One conversation, here, turn by turn; it ends early when nobody answers."""
        said: list[dict[str, str]] = []
        for turn in range(1, talk.turns + 1):
            if self._stopping.is_set():
                return
            said.append({"role": "user", "content": f"{talk.name}, turn {turn}"})
            message = Message(
                tenant=talk.tenant,
                persona=talk.persona,
                conversation_id=talk.name,
                message_id=str(turn),
                messages=tuple(said),
                task=talk.task,
            )
            answer = self._conversations.answer(message)
            with self._lock:
                self.sources[answer.selected.source.value] += 1
            if answer.text is None:
                return
            said.append({"role": "assistant", "content": answer.text})

    def _judge(self, message: Message, completion: Completion) -> Judgement:
        key = (str(completion.answer.served_model), str(message.messages[-1]["content"]))
        with self._lock:
            self._measured[key] = completion.latency_ms * self._speed
        return as_recorded(message, completion)


class StretchedOutbox(Outbox):
    """Where one second of the run stands for ``speed`` seconds of the worker's."""

    def __init__(self, folder: Path, speed: float) -> None:
        super().__init__(folder)
        self._speed = speed
        self._counting = threading.Lock()
        self.completions = 0

    def put(self, kind: Kind, payload: dict[str, Any], key: str | None = None) -> bool:
        if kind is Kind.COMPLETION:
            payload = {**payload, "latency_ms": round(payload["latency_ms"] * self._speed)}
        is_new = super().put(kind, payload, key)
        if is_new and kind is Kind.COMPLETION:
            with self._counting:
                self.completions += 1
        return is_new
