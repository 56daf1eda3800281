"""One call of a provider: answers read, failures told apart, time bounded, nothing quoted."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.outcomes import load
from demo.provider import DemoProvider, Failure
from tests.services import free_ports, wait_until
from tests.worker.scenes import playing, settings, timed
from worker.chat import read_answer, read_stream
from worker.providers import (
    EmptyAnswer,
    MalformedAnswer,
    ProviderError,
    ProviderFailed,
    ProviderRefused,
    ProviderRefusedKey,
    Providers,
    ProvidersClosed,
    ProviderTimeout,
    ProviderUnreachable,
    RateLimited,
)
from worker.settings import Profile

MESSAGES = [{"role": "user", "content": "a secret question"}]


@pytest.fixture
def provider() -> Iterator[DemoProvider]:
    with playing() as running:
        yield running


@pytest.fixture
def providers(tmp_path: Path) -> Iterator[Providers]:
    made = Providers(settings(tmp_path, "http://127.0.0.1:9", provider_keys={"openai": "k-1"}))
    yield made
    made.close()


def profile(url: str, model: str = "gpt-5.4", provider: str = "openai") -> Profile:
    return Profile(slug=model, provider=provider, model=model, base_url=url)


def test_an_answer_with_its_usage_and_served_model(provider: DemoProvider, providers: Providers) -> None:
    provider.behave(served_model="gpt-5.4-2026-03-05")
    answer = providers.complete(profile(provider.url), MESSAGES, 5).answer
    [call] = provider.calls
    assert call.outcome
    assert answer.text == f"Recorded: GPT-5.4, {call.outcome.prompt_id}."
    assert answer.served_model == "gpt-5.4-2026-03-05"
    assert answer.usage
    assert answer.usage.prompt_tokens == call.outcome.prompt_tokens
    assert answer.usage.completion_tokens == call.outcome.completion_tokens
    assert answer.usage.cost_usd is None
    assert answer.extra["recorded"]["success"] is call.outcome.success


def test_a_billed_cost_is_read_exactly(provider: DemoProvider, providers: Providers) -> None:
    provider.behave(bill=True)
    answer = providers.complete(profile(provider.url), MESSAGES, 5).answer
    assert provider.calls[0].outcome
    assert answer.usage
    assert answer.usage.cost_usd == Decimal(provider.calls[0].outcome.cost_usd)


def test_streaming_gives_the_pieces_and_the_same_answer(provider: DemoProvider, providers: Providers) -> None:
    provider.behave(bill=True, served_model="served")
    pieces: list[str] = []
    answer = providers.complete(profile(provider.url), MESSAGES, 5, on_text=pieces.append).answer
    [call] = provider.calls
    assert call.stream
    assert call.outcome
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.cost_usd) == (
        call.outcome.prompt_tokens,
        Decimal(call.outcome.cost_usd),
    )
    assert (answer.served_model, answer.finish_reason) == ("served", "stop")
    assert answer.extra["recorded"]["score"] == call.outcome.score


def test_the_keys_go_to_their_own_provider_only(provider: DemoProvider, providers: Providers) -> None:
    providers.complete(profile(provider.url), MESSAGES, 5)
    providers.complete(profile(provider.url, provider="google"), MESSAGES, 5)
    assert [call.authorization for call in provider.calls] == ["Bearer k-1", None]


@pytest.mark.parametrize("failure", ["openai", "*"])
def test_a_url_of_the_settings_wins_over_the_profiles(
    provider: DemoProvider, tmp_path: Path, failure: str
) -> None:
    made = Providers(settings(tmp_path, "http://127.0.0.1:9", provider_urls={failure: provider.url}))
    assert made.complete(profile("http://127.0.0.1:9/v1"), MESSAGES, 5).answer.text
    made.close()


@pytest.mark.parametrize(
    ("failure", "error", "code"),
    [
        (Failure.SERVER_ERROR, ProviderFailed, "server_error"),
        (Failure.RATE_LIMITED, RateLimited, "rate_limited"),
        (Failure.EMPTY, EmptyAnswer, "empty"),
        (Failure.MALFORMED, MalformedAnswer, "malformed"),
        (Failure.HANG, ProviderTimeout, "timeout"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_each_failure_has_its_error(
    provider: DemoProvider,
    providers: Providers,
    failure: Failure,
    error: type[ProviderError],
    code: str,
    streaming: bool,
) -> None:
    provider.behave(error_rate=1, failures=(failure,), retry_after=7)
    on_text = (lambda _: None) if streaming else None
    with pytest.raises(error) as found:
        providers.complete(profile(provider.url), MESSAGES, 0.3, on_text=on_text)
    assert found.value.code == code
    assert "secret" not in str(found.value)
    if isinstance(found.value, RateLimited):
        assert found.value.retry_after == 7
    if isinstance(found.value, EmptyAnswer):
        assert found.value.answer
        assert found.value.answer.usage


def test_no_connection_and_an_unknown_model_are_told_apart(
    provider: DemoProvider, providers: Providers
) -> None:
    [port] = free_ports(1)
    with pytest.raises(ProviderUnreachable):
        providers.complete(profile(f"http://127.0.0.1:{port}/v1"), MESSAGES, 5)
    with pytest.raises(ProviderRefused):
        providers.complete(profile(provider.url, model="no-such-model"), MESSAGES, 5)


class _Scripted(BaseHTTPRequestHandler):
    """Answers with what the test says; the body may drip."""

    protocol_version = "HTTP/1.1"
    status, kind, pieces, pause = 200, "application/json", [b""], 0.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for piece in self.pieces:
                self.wfile.write(piece)
                time.sleep(self.pause)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Any]:
    servers = []

    def start(**script: Any) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Scripted", (_Scripted,), script))
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_apart(scripted: Any, providers: Providers, status: int) -> None:
    with pytest.raises(ProviderRefusedKey):
        providers.complete(profile(scripted(status=status)), MESSAGES, 5)


def test_a_body_that_drips_ends_when_the_time_does(scripted: Any, providers: Providers) -> None:
    url = scripted(pieces=[b" "] * 1000, pause=0.02)

    def call() -> None:
        with pytest.raises(ProviderTimeout):
            providers.complete(profile(url), MESSAGES, 0.3)

    _, seconds = timed(call)
    assert 0.29 < seconds < 0.6


def test_no_piece_is_handed_over_after_the_time_is_up(scripted: Any, providers: Providers) -> None:
    chunk = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'
    url = scripted(kind="text/event-stream", pieces=[chunk] * 1000, pause=0.02)
    pieces: list[str] = []
    with pytest.raises(ProviderTimeout):
        providers.complete(profile(url), MESSAGES, 0.2, on_text=pieces.append)
    count = len(pieces)
    assert count > 0
    time.sleep(0.1)
    assert len(pieces) == count


def test_who_listens_may_go_away_and_the_answer_is_still_whole(
    provider: DemoProvider, providers: Providers
) -> None:
    def gone(_: str) -> None:
        raise BrokenPipeError

    assert providers.complete(profile(provider.url), MESSAGES, 5, on_text=gone).answer.usage


def test_nothing_of_prompts_or_answers_is_logged(
    provider: DemoProvider, providers: Providers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="worker")
    providers.complete(profile(provider.url), MESSAGES, 5)
    provider.behave(error_rate=1)
    with pytest.raises(ProviderFailed):
        providers.complete(profile(provider.url), MESSAGES, 5)
    assert "secret" not in caplog.text
    assert "Recorded" not in caplog.text


def _body(**fields: Any) -> bytes:
    choice = {"message": {"content": "hello"}, "finish_reason": "stop"}
    return json.dumps({"model": "m", "choices": [choice], **fields}).encode()


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": "5", "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"completion_tokens": 1},
    ],
)
def test_usage_that_cannot_be_read_is_unknown_not_zero(usage: Any) -> None:
    assert read_answer(_body(usage=usage)).usage is None


@pytest.mark.parametrize("cost", ["NaN", -1, "x", True, 1e9, {}])
def test_a_cost_that_cannot_be_is_unknown(cost: Any) -> None:
    usage = read_answer(_body(usage={"prompt_tokens": 1, "completion_tokens": 1, "cost": cost})).usage
    assert usage
    assert usage.cost_usd is None


def test_cached_tokens_are_never_more_than_the_prompts() -> None:
    details = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}}
    usage = read_answer(_body(usage=details)).usage
    assert usage
    assert usage.cached_tokens == 5


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"error": {"message": "a secret"}}'],
)
def test_what_is_no_completion_is_malformed_and_not_quoted(body: bytes) -> None:
    with pytest.raises(ValueError) as found:  # noqa: PT011  # the kind is the contract, the text is for people
        read_answer(body)
    assert "secret" not in str(found.value)


def test_a_stream_that_breaks_off_is_malformed() -> None:
    with pytest.raises(ValueError, match="ended before"):
        read_stream([b'data: {"choices": [{"delta": {"content": "half"}}]}'], lambda _: None)


def test_the_recorded_outcomes_are_what_is_played() -> None:
    assert {outcome.profile for outcome in load()} >= {"gpt-5.4", "gemini-2.5-flash", "claude-haiku-4.5"}


def test_a_call_that_times_out_after_closing_is_given_up_and_no_timeout(
    provider: DemoProvider, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.behave(error_rate=1, failures=(Failure.HANG,))
    # As where a closed socket is not told to the thread that waits on it.
    monkeypatch.setattr(providers._http, "close", lambda: None)
    ended: list[Exception] = []

    def run() -> None:
        try:
            providers.complete(profile(provider.url), MESSAGES, 0.5)
        except (ProviderError, ProvidersClosed) as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: bool(provider.calls), "the call", 5)
    providers.close()
    thread.join(5)
    assert [type(error) for error in ended] == [ProvidersClosed]
