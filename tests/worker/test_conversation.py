"""The reference worker: it answers, it falls back, and every call it made is reported."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.provider import DemoProvider, Failure
from telemetry.events import parse
from tests.services import free_ports, wait_until
from tests.worker.api import Api, serving
from tests.worker.scenes import conversing, message, playing, policy, selecting, settings, tell
from worker.conversation import Answer, Judgement, Message
from worker.flusher import Flusher
from worker.outbox import Outbox
from worker.providers import Completion, ProvidersClosed
from worker.runtime import Worker

CHEAP, DEAR, INCUMBENT = "gemini-2.5-flash", "claude-haiku-4.5", "gpt-5.4"


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(policy()) as running:
        yield running


@pytest.fixture
def provider() -> Iterator[DemoProvider]:
    with playing() as running:
        yield running


def converse(
    api: Api, provider: DemoProvider, folder: Path, *messages: Message, **fields: Any
) -> list[Answer]:
    """Answer these, one after the other, with a worker that lives as long; then send its reports."""
    judge = {"judge": fields.pop("judge")} if "judge" in fields else {}
    on_text = fields.pop("on_text", None)
    made = settings(folder, api.url, provider_urls={"*": provider.url}, **fields)
    with selecting(made) as client, conversing(made, client, **judge) as conversations:
        answers = [conversations.answer(one, on_text) for one in messages or (message(),)]
    flush(api, folder)
    return answers


def flush(api: Api, folder: Path) -> None:
    outbox = Outbox(folder)
    Flusher(settings(folder, api.url), outbox).flush()
    outbox.close()


def test_a_message_is_answered_and_reported(api: Api, provider: DemoProvider, tmp_path: Path) -> None:
    [answer] = converse(api, provider, tmp_path)
    [call], [event] = provider.calls, api.events
    assert call.outcome
    assert answer.text == f"Recorded: Gemini 2.5 Flash, {call.outcome.prompt_id}."
    assert answer.profile
    assert (answer.profile.slug, answer.selected.reason) == ("cheap", "ranked")
    assert call.model == CHEAP
    told = parse(event)
    assert (told.profile, told.success, told.error_code) == ("cheap", True, None)
    assert (told.tenant, told.persona, told.task, told.conversation_id) == (
        "aurora",
        "essayist",
        "essay",
        "c-1",
    )
    assert str(told.decision_id) == answer.selected.decision_id == api.decided[0]["decision_id"]
    assert told.prompt_tokens == call.outcome.prompt_tokens
    assert told.completion_tokens == call.outcome.completion_tokens
    assert told.latency_ms == answer.tries[0].latency_ms


def test_the_cost_is_reported_only_if_the_provider_billed_it(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    converse(api, provider, tmp_path)
    provider.behave(bill=True)
    converse(api, provider, tmp_path, message(message_id="m-2"))
    derived, billed = api.events
    assert provider.calls[1].outcome
    assert "cost_usd" not in derived
    assert billed["cost_usd"] == provider.calls[1].outcome.cost_usd


def test_what_was_served_is_reported_as_the_provider_says(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(CHEAP, served_model="gemini-2.5-flash-002")
    converse(api, provider, tmp_path)
    assert api.events[0]["served_model"] == "gemini-2.5-flash-002"


def test_usage_that_is_not_told_is_estimated_not_zero(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(usage=False)
    [answer] = converse(api, provider, tmp_path)
    assert answer.text
    assert api.events[0]["prompt_tokens"] == -(-len("a secret question") // 4)
    assert api.events[0]["completion_tokens"] == -(-len(answer.text) // 4)


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Failure.SERVER_ERROR, "server_error"),
        (Failure.RATE_LIMITED, "rate_limited"),
        (Failure.EMPTY, "empty"),
        (Failure.MALFORMED, "malformed"),
        (Failure.HANG, "timeout"),
    ],
)
def test_when_a_profile_fails_the_next_answers_and_both_calls_are_reported(
    api: Api, provider: DemoProvider, tmp_path: Path, failure: Failure, code: str
) -> None:
    provider.behave(CHEAP, error_rate=1, failures=(failure,))
    [answer] = converse(api, provider, tmp_path, provider_timeout_seconds=0.5)
    assert answer.profile
    assert answer.profile.slug == "dear"
    assert [(one.profile, one.error_code) for one in answer.tries] == [("cheap", code), ("dear", None)]
    failed, answered = (parse(event) for event in api.events)
    assert (failed.profile, failed.success, failed.error_code) == ("cheap", False, code)
    assert (answered.profile, answered.success) == ("dear", True)
    assert failed.decision_id == answered.decision_id is not None
    # An empty answer was paid for all the same.
    assert (failed.completion_tokens > 0) is (failure is Failure.EMPTY)


def test_when_everything_fails_that_is_told_and_every_call_is_reported(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(error_rate=1)
    [answer] = converse(api, provider, tmp_path)
    assert (answer.text, answer.profile) == (None, None)
    assert [one.profile for one in answer.tries] == ["cheap", "dear", "incumbent", "house"]
    assert [event["success"] for event in api.events] == [False] * 4


def test_the_budget_is_never_exceeded_by_more_than_a_try(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(error_rate=1, failures=(Failure.HANG,))
    began = time.perf_counter()
    [answer] = converse(api, provider, tmp_path, budget_seconds=1.0)
    took = time.perf_counter() - began
    spent = sum(one.latency_ms for one in answer.tries) / 1000
    tell(f"budget 1 s, spent {spent:.2f} s in {len(answer.tries)} tries, {took:.2f} s with everything")
    assert 1 <= len(answer.tries) < 4
    assert spent < 1.5


def test_a_budget_that_selecting_used_up_still_allows_one_try(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    made = settings(tmp_path, api.url, provider_urls={"*": provider.url}, budget_seconds=0.1)
    with selecting(made) as client, conversing(made, client) as conversations:
        api.fault, api.fault_on = "silent", "/selections"
        answer = conversations.answer(message())
    assert answer.text
    assert len(answer.tries) == 1


def test_a_profile_that_asks_for_a_pause_is_left_alone_meanwhile(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(CHEAP, error_rate=1, failures=(Failure.RATE_LIMITED,), retry_after=60)
    converse(api, provider, tmp_path, message(), message(message_id="m-2"))
    assert [call.model for call in provider.calls] == [CHEAP, DEAR, DEAR]


def test_when_all_ask_for_a_pause_they_are_tried_nevertheless(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(error_rate=1, failures=(Failure.RATE_LIMITED,), retry_after=60)
    _, second = converse(api, provider, tmp_path, message(), message(message_id="m-2"))
    assert len(second.tries) == 4


def test_the_service_and_the_best_provider_down_at_once_there_is_still_an_answer(
    provider: DemoProvider, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    made = settings(tmp_path, f"http://127.0.0.1:{port}", provider_urls={"*": provider.url})
    with selecting(made, ready=False) as client, conversing(made, client) as conversations:
        answer = conversations.answer(message())
    assert answer.text
    assert (answer.selected.reason, answer.tries[0].profile) == ("client_default", "house")
    outbox = Outbox(tmp_path)
    assert outbox.backlog().waiting["completion"] == 1
    outbox.close()


def test_a_judge_decides_what_an_answer_is_worth(api: Api, provider: DemoProvider, tmp_path: Path) -> None:
    def judge(about: Message, completion: Completion) -> Judgement:
        assert about.task == "essay"
        recorded = completion.answer.extra["recorded"]
        return Judgement(recorded["success"], recorded["score"], escalated=True, safety_violation=True)

    converse(api, provider, tmp_path, judge=judge)
    [call], [event] = provider.calls, api.events
    assert call.outcome
    assert (event["success"], event["accuracy"]) == (call.outcome.success, call.outcome.score)
    assert (event["escalated"], event["safety_violation"]) == (True, True)


def test_a_judge_that_fails_costs_neither_the_answer_nor_its_report(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    def judge(*_: Any) -> Judgement:
        raise ZeroDivisionError

    [answer] = converse(api, provider, tmp_path, judge=judge)
    assert answer.text
    assert api.events[0]["success"] is True


def test_a_message_delivered_again_reports_under_the_same_ids_and_is_counted_once(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(CHEAP, error_rate=1)
    [first] = converse(api, provider, tmp_path)
    [again] = converse(api, provider, tmp_path)
    [other] = converse(api, provider, tmp_path, message(message_id="m-2"))
    ids = [[one.event_id for one in answer.tries] for answer in (first, again, other)]
    assert ids[0] == ids[1]
    assert set(ids[0]).isdisjoint(ids[2])
    assert [event["event_id"] for event in api.events] == ids[0] + ids[2]


def test_a_message_delivered_again_to_another_worker_has_the_same_ids(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        converse(api, provider, folder)
    assert len({event["event_id"] for event in api.events}) == 1


def test_an_answer_is_streamed_and_a_later_try_has_a_higher_number(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(CHEAP, error_rate=1)
    pieces: list[tuple[int, str, str]] = []
    [answer] = converse(
        api,
        provider,
        tmp_path,
        on_text=lambda number, profile, text: pieces.append((number, profile.slug, text)),
    )
    assert {(number, slug) for number, slug, _ in pieces} == {(2, "dear")}
    assert "".join(text for _, _, text in pieces) == answer.text


def test_conversations_at_once_are_all_reported(api: Api, provider: DemoProvider, tmp_path: Path) -> None:
    made = settings(tmp_path, api.url, provider_urls={"*": provider.url}, read_timeout_ms=5000)
    with selecting(made) as client, conversing(made, client) as conversations:
        asked = [message(f"c-{n}", f"m-{n}") for n in range(24)]
        threads = [threading.Thread(target=conversations.answer, args=(one,)) for one in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    flush(api, tmp_path)
    assert sorted(event["conversation_id"] for event in api.events) == sorted(
        one.conversation_id for one in asked
    )


def test_a_call_that_the_worker_itself_gives_up_is_no_failure_of_its_profile(
    api: Api, provider: DemoProvider, tmp_path: Path
) -> None:
    provider.behave(error_rate=1, failures=(Failure.HANG,))
    worker = Worker(settings(tmp_path, api.url, provider_urls={"*": provider.url}))
    ended: list[BaseException] = []

    def run() -> None:
        try:
            worker.conversations.answer(message())
        except ProvidersClosed as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: bool(provider.calls), "the call", 5)
    worker.close()
    # Its socket is closed under it at once; a system that does not tell it so ends with the provider.
    provider.stop()
    thread.join(5)
    assert len(ended) == 1
    flush(api, tmp_path)
    assert api.events == []


def test_nothing_of_the_prompt_is_logged(
    api: Api, provider: DemoProvider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="worker")
    provider.behave(error_rate=1)
    converse(api, provider, tmp_path)
    assert "secret" not in caplog.text
