"""Counts are noted without waiting for anybody, and every one of them reaches the meters."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from observability import tally as module
from observability.meters import meters, observe_all
from observability.tally import MOST, Tally

BOUNDS = (0.1, 0.5, 1.0)


@pytest.fixture(autouse=True)
def _own_meters() -> None:
    module.tally.forget()
    meters.cache_clear()


def value(name: str, **labels: str) -> float | None:
    return meters().registry.get_sample_value(name, labels)


def noted() -> Tally:
    """A tally whose thread never comes."""
    tally = Tally()
    tally._folds = True
    return tally


def test_what_is_noted_is_in_the_meters_once_it_is_folded() -> None:
    tally = noted()
    for seconds in (0.001, 0.02, 3.0):
        tally.decision("ranked", "remote")
        tally.decided(seconds)
        tally.request("POST", "selections", 200, seconds)
    tally.request("POST", "selections", 201, 0.2)
    tally.request("GET", "overview", 404, 0.2)
    assert value("selection_decisions_total", reason="ranked", source="remote") is None
    for _ in range(2):
        tally.fold()
        assert value("selection_decisions_total", reason="ranked", source="remote") == 3
        assert value("selection_decision_seconds_count") == 3
        assert value("selection_decision_seconds_sum") == pytest.approx(3.021)
        assert value("selection_decision_seconds_bucket", le="0.025") == 2
        post: Any = {"method": "POST", "route": "selections", "status": "2xx"}
        assert value("selection_http_requests_total", **post) == 4
        assert value("selection_http_request_seconds_count", route="selections") == 4
        assert value("selection_http_requests_total", method="GET", route="overview", status="4xx") == 1


@given(st.lists(st.lists(st.one_of(st.sampled_from([0.0, 2.0, *BOUNDS]), st.floats(0, 10)))))
def test_a_histogram_in_bulk_is_as_if_each_had_been_observed(batches: list[list[float]]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    bulk, single = (Histogram("h", "h", registry=registry, buckets=BOUNDS) for registry in registries)
    for batch in batches:
        for amount in batch:
            single.observe(amount)
        observe_all(bulk, [*batch])
    for name in ("h_count", *(f"h_bucket/{bound}" for bound in (*BOUNDS, "+Inf"))):
        labels = {"le": name.partition("/")[2]} if "/" in name else {}
        found = [registry.get_sample_value(name.partition("/")[0], labels) for registry in registries]
        assert found[0] == found[1]
        assert found[0] is not None
    sums = [registry.get_sample_value("h_sum") for registry in registries]
    assert sums[0] == pytest.approx(sums[1])


def test_nobody_folding_leaves_no_more_than_so_many_waiting() -> None:
    tally = noted()
    for _ in range(MOST + 1):
        tally.decision("ranked", "remote")
    assert value("selection_decisions_total", reason="ranked", source="remote") == MOST + 1


def test_notes_of_many_threads_are_all_counted_while_others_fold() -> None:
    tally, each = noted(), 5_000
    asked: Any = {"method": "POST", "route": "selections", "status": "2xx"}

    def work() -> None:
        for _ in range(each):
            tally.decision("ranked", "remote")
            tally.request("POST", "selections", 200, 0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tally.fold()
    tally.fold()
    assert value("selection_decisions_total", reason="ranked", source="remote") == 4 * each
    assert value("selection_http_requests_total", **asked) == 4 * each


def test_a_thread_of_the_process_folds_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD_SECONDS", 0.01)
    folded = threading.Event()
    tally = Tally()
    tally.fold = folded.set  # type: ignore[method-assign]
    tally.decision("ranked", "remote")
    assert folded.wait(10)


#: Notes in the parent, in a child that was forked, and after; each ends at once, before a thread would fold.
FORK = """
import multiprocessing, sys
from pathlib import Path
import django
django.setup()
from observability.sharing import share
from observability.tally import tally
share(Path(sys.argv[1]))
tally.decision("ranked", "remote")
child = multiprocessing.get_context("fork").Process(target=tally.decision, args=("holdout", "remote"))
child.start()
child.join()
tally.decision("ranked", "remote")
"""


def test_processes_that_end_lose_nothing_and_a_forked_one_counts_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], env=environment, check=True, timeout=60)
    from observability import heartbeats, sharing

    monkeypatch.setattr(sharing, "_directory", tmp_path / "metrics" / heartbeats.host())
    found = sharing.registry_of_all(CollectorRegistry())
    for reason, count in (("ranked", 2), ("holdout", 1)):
        told = found.get_sample_value("selection_decisions_total", {"reason": reason, "source": "remote"})
        assert told == count
