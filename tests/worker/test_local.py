"""Deciding in the worker itself, with the service's bundle and the service's engine."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from routing.engine import BundlePersona, SelectionRequest, decide
from tests.routing.cases import NOW, bundle, evidence
from tests.services import wait_until
from tests.worker.api import Api, serving
from tests.worker.scenes import code, policy, selecting, settings, tell
from worker import policy_cache
from worker.flusher import Flusher
from worker.outbox import Outbox


@pytest.fixture
def api() -> Iterator[Api]:
    with serving(policy()) as running:
        yield running


def test_local_evaluation_is_what_the_engine_says_of_the_same_bundle(api: Api, tmp_path: Path) -> None:
    with selecting(settings(tmp_path, api.url, evaluation="local")) as client:
        for number in range(200):
            selected = client.select("aurora", "essayist", f"c-{number}", "essay")
            request = SelectionRequest("aurora", "essayist", f"c-{number}", NOW, task="essay")
            expected = decide(policy(), request)
            assert selected.decision_id == expected.decision_id
            assert (selected.profile.slug, selected.reason) == (expected.profile.slug, expected.reason.value)
            assert [one.slug for one in selected.fallback] == [*expected.fallback, "house"]
    assert api.count("/selections") == api.count("/selections/batch")


def test_a_conversation_is_sticky(api: Api, tmp_path: Path) -> None:
    api.bundle = policy(personas={"essayist": _patient()})
    with selecting(settings(tmp_path, api.url, evaluation="local")) as client:
        first = client.select("aurora", "essayist", "c-1", exclude=["cheap"])
        second = client.select("aurora", "essayist", "c-1")
        other = client.select("aurora", "essayist", "c-2")
    found = [(one.profile.slug, one.reason) for one in (first, second, other)]
    assert found == [("dear", "ranked"), ("dear", "sticky"), ("cheap", "ranked")]


def test_it_stays_sticky_to_what_the_service_gave_before_the_outage(api: Api, tmp_path: Path) -> None:
    api.bundle = policy(personas={"essayist": _patient()})
    with selecting(settings(tmp_path, api.url)) as client:
        assert client.select("aurora", "essayist", "c-1", exclude=["cheap"]).source == "remote"
        api.fault, api.fault_on = 500, "/selections"
        selected = client.select("aurora", "essayist", "c-1")
    assert (selected.profile.slug, selected.source, selected.reason) == ("dear", "local", "sticky")


def _patient() -> BundlePersona:
    return replace(policy().personas["essayist"], switch_margin=1)


def test_every_decision_made_here_reaches_the_service_whole(api: Api, tmp_path: Path) -> None:
    made = settings(tmp_path, api.url, evaluation="local")
    with selecting(made) as client:
        asked = [client.select("aurora", "essayist", f"c-{number}") for number in range(2500)]
    outbox = Outbox(tmp_path)
    assert Flusher(made, outbox).flush() == 2500
    assert [one["decision_id"] for one in api.decisions] == [one.decision_id for one in asked]
    expected = decide(policy(), SelectionRequest("aurora", "essayist", "c-7", NOW))
    assert api.decisions[7] == expected.core()


def test_a_new_bundle_is_used_and_an_unchanged_one_is_not_sent_again(api: Api, tmp_path: Path) -> None:
    with selecting(settings(tmp_path, api.url, evaluation="local", policy_refresh_seconds=0.02)) as client:
        wait_until(lambda: ("GET", "/api/v1/policy", 304) in api.requests, "an unchanged bundle", 5)
        assert client.select("aurora", "essayist", "c-1").profile.slug == "cheap"
        api.bundle = policy(version="1.2", personas=policy().personas, scope_defaults={}, snapshot=None)
        wait_until(
            lambda: client.select("aurora", "essayist", "c-1").profile.slug == "incumbent", "the new one", 5
        )
    assert sum(status == 200 for _, path, status in api.requests if path == "/api/v1/policy") == 2


def test_the_bundle_on_disk_outlives_the_process_and_the_service(api: Api, tmp_path: Path) -> None:
    made = settings(tmp_path, api.url, evaluation="local")
    with selecting(made):
        pass
    api.stop()
    with selecting(made, ready=False) as client:
        selected = client.select("aurora", "essayist", "c-1")
    assert (selected.profile.slug, selected.source) == ("cheap", "local")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-10],
        lambda content: content.replace(b"cheap", b"dear!"),
        lambda content: b"",
        lambda content: b"\x00" * len(content),
    ],
    ids=["cut short", "changed", "empty", "zeroed"],
)
def test_a_damaged_bundle_is_refused_and_told_and_is_not_fatal(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    made = settings(tmp_path, api.url, evaluation="local")
    with selecting(made):
        pass
    api.stop()
    path = tmp_path / policy_cache.FILE
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with selecting(made, ready=False) as client:
        selected = client.select("aurora", "essayist", "c-1")
    assert (selected.profile.slug, code(selected)) == ("house", "no_policy")
    assert "the policy bundle on disk is not used: its checksum does not match" in caplog.text


def test_a_bundle_of_another_service_is_refused(api: Api, tmp_path: Path) -> None:
    with selecting(settings(tmp_path, api.url)):
        pass
    with selecting(settings(tmp_path, "http://127.0.0.1:9"), ready=False) as client:
        assert client.select("aurora", "essayist", "c-1").source == "default"


@pytest.mark.parametrize("body", [b"[]", b"{}", b"no json", b'{"version": "9"}'])
def test_a_bundle_that_cannot_be_read_leaves_the_last_good_one(
    api: Api, tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with selecting(settings(tmp_path, api.url)) as client:
        api.bundle = policy(version="1.2")
        monkeypatch.setattr(type(api.bundle), "to_dict", lambda _: __import__("json").loads(body or "null"))
        if body == b"no json":
            api.fault, api.fault_on = 200, "/policy"
        assert not client.policy.refresh()
        assert client.policy.current is not None
        assert client.policy.current.bundle.version == "1.1"


def test_deciding_here_takes_microseconds(tmp_path: Path) -> None:
    twenty = bundle(*(evidence(f"p{n}", cost=f"0.00{n + 10}") for n in range(20)))
    with (
        serving(twenty) as api,
        selecting(settings(tmp_path, api.url, evaluation="local", policy_refresh_seconds=2)) as client,
    ):
        took = []
        for number in range(4000):
            began = time.perf_counter()
            client.select("aurora", "essayist", f"c-{number}")
            took.append(time.perf_counter() - began)
    p50, p99 = statistics.median(took) * 1e6, statistics.quantiles(took, n=100)[98] * 1e6
    tell(f"local evaluation at 20 profiles: p50 {p50:.0f} us, p99 {p99:.0f} us")
    # The aim is 60; a machine that does other things meanwhile is not a defect.
    assert p50 < 300
