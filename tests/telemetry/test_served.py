"""Which answers count as another model's."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from telemetry.clickhouse import ClickHouse
from telemetry.served import is_other
from tests import factories
from tests.telemetry.pipeline import run_pipeline


@pytest.mark.parametrize(
    ("requested", "served"),
    [
        ("gpt-4.1", None),
        ("gpt-4.1", "gpt-4.1"),
        ("gpt-4.1", "GPT-4.1"),
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-4.1", "openai/gpt-4.1"),
        ("openai/gpt-4.1", "gpt-4.1-20250414"),
        ("claude-sonnet-4-latest", "claude-sonnet-4-20250514"),
        ("gpt-4", "gpt-4-0613"),
    ],
)
def test_the_same_model_by_another_name_is_not_another(requested: str, served: str | None) -> None:
    assert not is_other(requested, served)


@pytest.mark.parametrize(
    ("requested", "served"),
    [
        ("gpt-4.1", "gpt-4.1-mini"),
        ("gpt-4.1", "gpt-4.1-mini-2025-04-14"),
        ("gpt-4.1", "gpt-4o"),
        ("llama-3.3-70b", "llama-3.3-8b"),
        ("gpt-4.1", ""),
    ],
)
def test_another_model_is_another(requested: str, served: str) -> None:
    assert is_other(requested, served)


@pytest.mark.django_db
def test_answers_by_another_model_are_counted_and_shown(client: Client, door: ClickHouse) -> None:
    factories.scope()
    now = timezone.now()
    served: list[Any] = ["gpt-5.4", "gpt-5.4-2026-03-01", "gpt-5.4-mini", "gpt-5.4-mini", None]
    events = [factories.event(occurred_at=now.isoformat(), served_model=model) for model in served]
    run_pipeline(door, events, now)
    body = client.get(
        "/api/v1/metrics/profiles", {"tenant": "aurora", "persona": "essayist"}, headers=factories.key("read")
    ).json()
    [profile] = body["profiles"]
    assert (profile["requests"], profile["served_other"]) == (5, 2)
