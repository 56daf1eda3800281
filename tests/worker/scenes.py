"""A bundle of three profiles, settings that lead to a test's own servers, and clients made of both."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.provider import DemoProvider
from routing.engine import Bundle
from tests.routing.cases import NOW, bundle, evidence, profile
from worker.client import Selected, SelectionClient
from worker.conversation import Conversations, Message, not_empty
from worker.outbox import Outbox
from worker.providers import Providers
from worker.settings import Profile, Settings, load_settings

DEFAULT = Profile(slug="house", provider="openai", model="gpt-4.1-mini", base_url="http://127.0.0.1:9/v1")


def policy(**fields: Any) -> Bundle:
    """``cheap`` is the best, then ``dear``, and ``incumbent`` is the default; each is a model of the demo."""
    return bundle(
        evidence("cheap", cost="0.001"),
        evidence("dear", cost="0.009"),
        evidence("incumbent", cost="0.01"),
        profiles=[
            profile("cheap", model="gemini-2.5-flash", provider="google"),
            profile("dear", model="claude-haiku-4.5", provider="anthropic"),
            profile("incumbent", model="gpt-5.4", provider="openai"),
        ],
        **fields,
    )


def settings(folder: Path, api_url: str, **fields: Any) -> Settings:
    values: dict[str, Any] = {
        "api_url": api_url,
        "api_key": "key",
        "default_profile": DEFAULT,
        "state_dir": folder,
        "policy_refresh_seconds": 0.1,
        "breaker_seconds": 0.1,
    }
    return load_settings(**{**values, **fields})


@contextmanager
def selecting(made: Settings, ready: bool = True) -> Iterator[SelectionClient]:
    """A client; ``ready`` waits for its first bundle from the service."""
    outbox = Outbox(made.state_dir)
    with SelectionClient(made, outbox, clock=lambda: NOW) as client:
        if ready:
            assert client.wait_ready(5)
        yield client
    outbox.close()


@contextmanager
def playing(**behaviour: Any) -> Iterator[DemoProvider]:
    provider = DemoProvider(seed=1)
    provider.behave(**behaviour)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


@contextmanager
def conversing(made: Settings, client: SelectionClient, judge: Any = not_empty) -> Iterator[Conversations]:
    providers, outbox = Providers(made), Outbox(made.state_dir)
    try:
        yield Conversations(made, client, providers, outbox, judge)
    finally:
        providers.close()
        outbox.close()


def message(conversation_id: str = "c-1", message_id: str = "m-1", **fields: Any) -> Message:
    values: dict[str, Any] = {
        "tenant": "aurora",
        "persona": "essayist",
        "conversation_id": conversation_id,
        "message_id": message_id,
        "messages": [{"role": "user", "content": "a secret question"}],
        "task": "essay",
    }
    return Message(**{**values, **fields})


def event(number: int = 0, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
        "occurred_at": NOW.isoformat(),
        "tenant": "aurora",
        "persona": "essayist",
        "profile": "cheap",
        "conversation_id": "c-1",
        "success": True,
        "latency_ms": 5,
        "prompt_tokens": 1,
        "completion_tokens": 1,
    }
    return {**values, **fields}


def tell(line: str) -> None:
    """A measured figure, for whoever runs the tests with -s."""
    print(line)  # noqa: T201


def code(selected: Selected) -> str | None:
    """The problem's, if there is one."""
    return selected.problem.code if selected.problem else None


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and the seconds that it took."""
    began = time.perf_counter()
    result = function()
    return result, time.perf_counter() - began
