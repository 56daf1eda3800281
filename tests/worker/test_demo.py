"""What the demo shows of the worker: a provider that plays all the others, and live conversations."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.live import LiveTraffic
from demo.outcomes import PERSONA_OF, load
from demo.provider import Failure
from demo.timeline import TRAFFIC
from routing.engine import BundlePersona, BundleTenant, FlagState
from tests.routing.cases import bundle, profile
from tests.services import free_ports, wait_until
from tests.worker.api import serving
from tests.worker.scenes import playing

ROOT = Path(__file__).parents[2]


def ask(url: str, model: str = "gpt-5.4", **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    return httpx.post(f"{url}/chat/completions", json=body, timeout=10)


def test_it_lists_its_models() -> None:
    with playing() as provider:
        models = httpx.get(f"{provider.url}/models").json()["data"]
    assert len(models) == 14
    assert {"gpt-5.4", "gemini-2.5-flash"} <= {model["id"] for model in models}


def test_it_replays_what_the_model_did_on_that_kind_of_task() -> None:
    with playing() as provider:
        answer = ask(provider.url, metadata={"task": "code"}).json()
        [call] = provider.calls
    assert call.outcome in load()
    assert call.outcome
    assert (call.outcome.profile, call.outcome.category) == ("gpt-5.4", "code")
    assert answer["usage"]["completion_tokens"] == call.outcome.completion_tokens
    assert answer["recorded"] == {
        "success": call.outcome.success,
        "score": call.outcome.score,
        "safety_violation": False,
    }


def test_one_model_is_changed_while_it_runs_and_the_others_go_on() -> None:
    with playing() as provider:
        provider.behave("gpt-5.4", error_rate=1, failures=(Failure.RATE_LIMITED,), retry_after=9)
        limited = ask(provider.url)
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "9")
        assert ask(provider.url, "gpt-5.5").status_code == 200
        provider.behave("gpt-5.4", error_rate=0)
        assert ask(provider.url).status_code == 200


def test_an_error_rate_is_a_share() -> None:
    with playing(error_rate=0.3) as provider:
        seen = Counter(ask(provider.url).status_code for _ in range(200))
    assert 30 <= seen[500] <= 90


def test_what_it_does_not_know_is_an_error_as_providers_give_it() -> None:
    with playing() as provider:
        assert ask(provider.url, "no-such-model").json()["error"]["code"] == "model_not_found"
        assert httpx.post(f"{provider.url}/chat/completions", content=b"{").status_code == 400
        assert httpx.get(f"{provider.url}/nothing").status_code == 404


def test_it_runs_alone_from_the_command_line() -> None:
    [port] = free_ports(1)
    command = [sys.executable, "-m", "demo.provider", "--port", str(port), "--latency-scale", "0", "--bill"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        url = process.stdout.readline().split()[0]
        assert "cost" in ask(url).json()["usage"]
    finally:
        process.terminate()
        process.wait()
        assert process.stdout
        process.stdout.close()


@pytest.mark.parametrize("argument", ["--error-rate=x", "--failures=oops", "--unknown"])
def test_a_bad_argument_is_a_clear_error(argument: str) -> None:
    command = [sys.executable, "-m", "demo.provider", argument]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_live_conversations_have_turns_keep_their_profile_and_are_reported_as_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.live._PERIOD_SECONDS", 0.05)
    slugs = sorted({outcome.profile for outcome in load()})
    catalogue = bundle(
        version="1.1",
        tenants={one.tenant: BundleTenant(one.tenant, enabled=True) for one in TRAFFIC},
        personas={
            slug: BundlePersona(slug, enabled=True, default_profile="gpt-oss-120b")
            for slug in set(PERSONA_OF.values())
        },
        profiles=[profile(slug) for slug in slugs],
        flag=FlagState(everyone=False),
        snapshot=None,
    )
    with serving(catalogue, at=datetime.now(UTC)) as api:
        live = LiveTraffic(api.url, "key", lambda: datetime.now(UTC), tmp_path, latency_scale=0)
        live.start()

        def turns() -> Counter[str]:
            return Counter(one["conversation_id"] for one in api.events if "decision_id" in one)

        wait_until(lambda: sum(count > 1 for count in turns().values()) >= 5, "conversations with turns", 20)
        live.stop()
    told = [one for one in api.events if "decision_id" in one]
    assert {one["profile"] for one in told} == {"gpt-oss-120b"}
    assert {"accuracy", "cost_usd", "served_model"} <= set(told[0])
    assert json.dumps(told[0])
    assert not any(one["success"] is None for one in told)
