"""The reference worker while the service and a provider are down: every message is answered, all of it told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.provider import DemoProvider, Failure
from tests.faults.conftest import Breaking
from tests.faults.product import Product, kill
from tests.faults.table import Promise
from tests.services import wait_until
from worker.client import Source
from worker.conversation import Answer, Message
from worker.runtime import Worker
from worker.settings import Settings, load_settings

pytestmark = [pytest.mark.services, pytest.mark.slow]


@contextmanager
def playing() -> Iterator[DemoProvider]:
    provider = DemoProvider()
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


def test_a_worker_answers_while_the_service_and_a_provider_are_down_and_tells_all_afterwards(
    product: Product, tmp_path: Path, breaking: Breaking
) -> None:
    row = breaking("the service killed -9, then a provider failing", Promise.ALWAYS)
    with playing() as provider, Worker(worker_settings(product, provider, tmp_path)) as worker:
        assert worker.client.wait_ready(10)
        first = _converse(worker, "before")
        assert {answer.selected.source for answer in first} == {Source.REMOTE}
        chosen = first[0].selected.profile.slug

        kill(product.web)
        down = _converse(worker, "down")
        assert {answer.selected.source for answer in down} == {Source.LOCAL}
        assert {answer.selected.reason for answer in down} == {"ranked"}

        provider.behave(chosen, error_rate=1.0, failures=(Failure.SERVER_ERROR,))
        both = _converse(worker, "both")
        assert {tuple(one.error_code for one in answer.tries) for answer in both} == {("server_error", None)}
        assert {answer.profile.slug for answer in both if answer.profile} == {
            first[0].selected.fallback[0].slug
        }

        product.web = product.apart.start_web()
        answers = [*first, *down, *both]
        events = {one.event_id for answer in answers for one in answer.tries}
        decided = {str(answer.selected.decision_id) for answer in answers}
        wait_until(
            lambda: not events - _ids(product, "completions", "event_id"), "all telemetry is there", 60
        )
        wait_until(
            lambda: not decided - _ids(product, "selections", "decision_id"), "all decisions are there", 60
        )
    rows = product.door().query(
        "SELECT count() AS n, uniqExact(event_id) AS ids FROM completions FINAL WHERE conversation_id LIKE 'worker-%'"
    )
    assert rows == [{"n": len(events), "ids": len(events)}]
    shown = ", ".join(f"'{one}'" for one in decided)
    [replays] = product.door().query(
        f"SELECT countIf(replay != 'equal') AS unequal FROM selections FINAL WHERE toString(decision_id) IN ({shown})"
    )
    assert replays == {"unequal": 0}
    row.measured = (
        f"{len(answers)} of 15 messages answered; {len(events)} completions and {len(decided)} decisions there once "
        "afterwards, each replayed equal"
    )


def worker_settings(product: Product, provider: DemoProvider, directory: Path, **fields: Any) -> Settings:
    return load_settings(
        api_url=f"http://127.0.0.1:{product.apart.port}",
        api_key=product.key,
        state_dir=directory,
        default_profile={
            "slug": "gpt-5.4",
            "provider": "openai",
            "model": "gpt-5.4",
            "base_url": "https://api.openai.com/v1",
        },
        provider_urls={"*": provider.url},
        # A loaded machine: how fast it answers is measured in tests/worker.
        read_timeout_ms=2000,
        **fields,
    )


def _converse(worker: Worker, name: str) -> list[Answer]:
    answers = []
    for number in range(5):
        message = Message(
            tenant="aurora",
            persona="essayist",
            conversation_id=f"worker-{name}-{number}",
            message_id="1",
            messages=({"role": "user", "content": "An essay on tides."},),
        )
        answers.append(worker.conversations.answer(message))
    assert all(answer.text for answer in answers)
    return answers


def _ids(product: Product, table: str, column: str) -> set[str]:
    rows = product.door().query(f"SELECT DISTINCT toString({column}) AS id FROM {table}")
    return {row["id"] for row in rows}
