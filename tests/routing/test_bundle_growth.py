"""However many overrides there are, a decision looks at its own, and a request never pays for a rebuild."""

import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.db import DatabaseError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from catalog.versions import bump_version, policy_changed
from overrides.models import Override
from routing import archive as archives
from routing import bundle as bundles
from routing.archive import NotArchivedError, archive, read_bundle
from routing.bundle import BundleKeeper, apart, current_bundle, forget_bundle
from routing.engine import (
    Bundle,
    SelectionRequest,
    Standing,
    StandingOverride,
    canonical_json,
    decide,
)
from routing.models import PolicyRevision
from routing.parts import SIZE, divide
from routing.serving import PolicyServer
from routing.standing import Kind
from tests import factories
from tests.crowd import crowd
from tests.routing.cases import NOW, bundle

pytestmark = pytest.mark.django_db


def many(count: int, tenants: int = 5_000) -> tuple[StandingOverride, ...]:
    return tuple(
        StandingOverride(
            n + 1, Kind.LOCK, "best", f"tenant-{n % tenants}", "essayist", f"task-{n // tenants}"
        )
        for n in range(count)
    )


class Counted(StandingOverride):
    """Counts how often a decision looks at an override."""

    looked_at = 0

    def stands(self, task: str, at: Any) -> bool:
        Counted.looked_at += 1
        return super().stands(task, at)


def looks(others: int) -> int:
    mine = [Counted(n, Kind.LOCK, "best", "mine", "essayist", f"task-{n}") for n in range(10)]
    rest = [Counted(n + 10, Kind.LOCK, "best", f"tenant-{n % 5_000}", "essayist") for n in range(others)]
    standing = Standing((*mine, *rest))
    Counted.looked_at = 0
    assert [o.id for o in standing.of("mine", "essayist", "task-3", NOW)] == [3]
    return Counted.looked_at


def test_with_100_000_overrides_a_decision_looks_at_as_few_as_with_ten() -> None:
    assert looks(others=99_990) == looks(others=0) == 10


changes = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", None]), st.booleans()), max_size=25
)


def override(number: int, tenant: str | None, kind: bool) -> StandingOverride:
    return StandingOverride(number, Kind.LOCK if kind else Kind.EXCLUDE, "best", tenant, "essayist")


@given(changes, changes)
def test_what_stands_after_a_change_is_what_would_stand_from_nothing(before: Any, after: Any) -> None:
    first = {number: override(number, tenant, kind) for number, tenant, kind in before}
    second = {number: override(number, tenant, kind) for number, tenant, kind in after}
    kept = {n: first[n] if first.get(n) == o else o for n, o in sorted(second.items())}
    overrides = tuple(kept.values())
    gone = [o for n, o in first.items() if kept.get(n) is not o]
    fresh = [o for n, o in kept.items() if first.get(n) is not o]
    old = Standing(tuple(first[n] for n in sorted(first)))
    grown = old.followed_by(overrides, gone, fresh, frozenset(), False)
    whole = Standing(overrides)
    assert grown == whole
    assert grown._by_tenant == whole._by_tenant
    for tenants in ((), ("a",), ("a", "b")):
        assert grown.for_tenants(tenants) == whole.for_tenants(tenants)


@given(st.sets(st.integers(1, 5_000), max_size=2_000), st.integers(1, 5_000))
def test_parts_are_the_whole_and_a_change_makes_at_most_two_anew(ids: set[int], changed: int) -> None:
    before = [override(number, "a", True) for number in sorted(ids)]
    after = [override(number, "a", number != changed) for number in sorted(ids | {changed})]
    parts = divide(before)
    assert [o for part in parts for o in part.overrides] == before
    again = divide(after, parts)
    assert [o for part in again for o in part.overrides] == after
    assert len({part.checksum for part in again} - {part.checksum for part in parts}) <= 2
    assert [part.checksum for part in again] == [part.checksum for part in divide(after)]


def test_parts_are_of_about_the_size_that_was_asked_for() -> None:
    sizes = [len(part.overrides) for part in divide(many(100_000))]
    assert max(sizes) < 4 * SIZE
    assert len(sizes) < 3 * 100_000 / SIZE


@pytest.mark.slow
def test_a_build_takes_the_same_few_queries_with_100_000_overrides_and_reads_no_part_of_the_archive_twice() -> (
    None
):
    crowd(1)
    with CaptureQueriesContext(connection) as few:
        bundles.build(None)
    crowd(100_000)
    with CaptureQueriesContext(connection) as queries:
        built = bundles.build(None)
    assert len(built.bundle.standing.overrides) == 100_001
    # The parts' records are looked for and written some hundreds at a time.
    assert len(queries) <= len(few) + 4
    one = Override.objects.order_by("pk")[50_000]
    one.expires_at = timezone.now() + timedelta(days=7)
    one.save()
    with CaptureQueriesContext(connection) as queries:
        again = bundles.build(built)
    assert len(queries) <= len(few) + 2
    same = {id(o) for o in built.bundle.standing.overrides} & {id(o) for o in again.bundle.standing.overrides}
    assert len(same) == 100_000
    assert len({part.checksum for part in again.parts} - {part.checksum for part in built.parts}) == 1


@pytest.fixture
def some(monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 overrides, which are too many to stand in one record."""
    crowd(3_000, tenants=50)
    monkeypatch.setattr(archives, "_INLINE", 100)


def ask(found: Bundle, tenant: str = "tenant-7") -> bytes:
    asked = SelectionRequest(tenant, "persona-1", "c-1", timezone.now().replace(microsecond=0), "task-1")
    return canonical_json(decide(found, asked).to_dict())


def change() -> Override:
    one = Override.objects.order_by("pk")[57]
    one.profile = factories.profile("profile-9")
    one.save()
    return one


@pytest.mark.usefixtures("some")
def test_every_version_is_read_back_as_it_was_and_shares_what_did_not_change() -> None:
    first = bundles.build(None)
    change()
    second = bundles.build(first)
    whole = PolicyRevision.objects.exclude(name__startswith="part-")
    assert [row.name for row in whole.order_by("pk")] == [
        built.bundle.version.rpartition(".")[0] for built in (first, second)
    ]
    assert PolicyRevision.objects.filter(name__startswith="part-").count() == len(first.parts) + 1
    for built in (first, second):
        read = read_bundle(built.bundle.version)
        assert read == built.bundle
        assert canonical_json(read.to_dict()) == canonical_json(built.bundle.to_dict())
        assert ask(read) == ask(built.bundle)
    near = archive.bundle(first.bundle.version).standing.overrides
    ids = {id(o) for o in near}
    shared = [o for o in archive.bundle(second.bundle.version).standing.overrides if id(o) in ids]
    assert len(shared) > len(near) - 4 * SIZE


@pytest.mark.usefixtures("some")
def test_all_processes_name_a_version_alike_however_they_came_to_it() -> None:
    first = bundles.build(None)
    change()
    assert bundles.build(first).bundle.version == bundles.build(None).bundle.version


@pytest.mark.usefixtures("some")
def test_a_part_that_is_lost_or_altered_makes_the_version_unreadable_not_different() -> None:
    built = bundles.build(None)
    part = PolicyRevision.objects.filter(name__startswith="part-").first()
    assert part is not None
    told = orjson.loads(zlib.decompress(bytes(part.payload)))
    told[0]["profile"] = "profile-3"
    part.delete()
    with pytest.raises(NotArchivedError, match="part"):
        read_bundle(built.bundle.version)
    PolicyRevision.objects.create(
        name=part.name,
        created_at=part.created_at,
        checksum=part.checksum,
        payload=zlib.compress(canonical_json(told)),
    )
    with pytest.raises(archives.DamagedArchiveError, match="checksum"):
        read_bundle(built.bundle.version)


@pytest.mark.usefixtures("some")
def test_pruning_keeps_the_parts_of_what_it_keeps() -> None:
    first = bundles.build(None)
    change()
    second = bundles.build(first)
    # Of the first version its revision goes, and the one part that only it had.
    assert archives.prune(timezone.now() + timedelta(days=1)) == 2
    assert read_bundle(second.bundle.version) == second.bundle
    with pytest.raises(NotArchivedError):
        read_bundle(first.bundle.version)
    assert archives.prune(timezone.now() + timedelta(days=1)) == 0


def test_a_few_overrides_stand_in_the_revision_as_they_always_did() -> None:
    crowd(10, tenants=5)
    built = bundles.build(None)
    row = PolicyRevision.objects.get()
    told = orjson.loads(zlib.decompress(bytes(row.payload)))
    assert len(told["standing"]["overrides"]) == 10
    assert "parts" not in told["standing"]
    assert read_bundle(built.bundle.version) == built.bundle


def test_the_served_bundle_is_the_canonical_json_of_the_whole() -> None:
    found = replace(bundle(), standing=Standing(many(1_234)))
    server = PolicyServer(kept=1)
    assert server.serve(found, None).body == canonical_json(found.to_dict())
    mine = frozenset({"aurora"})
    assert server.serve(found, mine).body == canonical_json(found.for_tenants(mine).to_dict())
    assert len(server._served) == 1


class Later:
    """Runs a rebuild when a test says so, or never."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)

    def go(self) -> None:
        self.waiting.pop()()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def keeper(clock: list[float], later: Later) -> BundleKeeper:
    factories.scope()
    keeper = BundleKeeper(2, monotonic=lambda: clock[0], run=later)
    keeper.current()
    assert not later.waiting  # the first one is built by who asks
    return keeper


def test_while_a_rebuild_runs_requests_get_the_last_bundle_at_once(
    keeper: BundleKeeper, clock: list[float], later: Later
) -> None:
    first = keeper.current()
    bump_version()
    clock[0] = 2.0
    for _ in range(3):
        assert keeper.current() is first
        clock[0] += 2.0
    assert len(later.waiting) == 1
    later.go()
    assert keeper.current().version != first.version


def test_a_rebuild_that_fails_leaves_the_last_bundle_is_logged_and_tried_again(
    keeper: BundleKeeper,
    clock: list[float],
    later: Later,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = keeper.current()
    bump_version()
    for number, error in enumerate((DatabaseError("gone"), ValueError("a bug")), 1):
        with monkeypatch.context() as broken:

            def fail(_: Any, error: Exception = error) -> Any:
                raise error

            broken.setattr(bundles, "build", fail)
            clock[0] += 2.0
            keeper.current()
            with caplog.at_level(logging.ERROR, "routing.bundle"):
                later.go()
        assert keeper.current() is first
        assert len([r for r in caplog.records if "last one stands" in r.message]) == number
    clock[0] += 2.0
    keeper.current()
    later.go()
    assert keeper.current().version != first.version


def test_without_a_thread_to_be_had_the_last_bundle_stands(
    keeper: BundleKeeper, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keeper.current()
    bump_version()
    clock[0] = 2.0

    def none(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(keeper, "_run", none)
    assert keeper.current() is first
    clock[0] = 4.0
    monkeypatch.setattr(keeper, "_run", bundles.at_once)
    assert keeper.current().version != first.version


def test_after_a_quiet_time_the_rebuild_is_waited_for_so_that_no_old_policy_decides(
    keeper: BundleKeeper, clock: list[float], monkeypatch: pytest.MonkeyPatch, later: Later
) -> None:
    first = keeper.current()
    bump_version()
    clock[0] = 600.0
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        later.go()

    monkeypatch.setattr(keeper._idle, "wait", wait)
    assert keeper.current().version != first.version
    assert waits == [bundles.PATIENCE_SECONDS]


def test_nobody_waits_longer_than_the_patience_however_long_it_takes(
    keeper: BundleKeeper, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keeper.current()
    bump_version()
    clock[0] = 600.0
    waits: list[float] = []
    monkeypatch.setattr(keeper._idle, "wait", waits.append)
    assert keeper.current() is first
    clock[0] += bundles.PATIENCE_SECONDS
    assert keeper.current() is first
    assert len(waits) == 1


def test_a_change_by_this_process_is_built_without_a_request_but_not_over_and_over(
    keeper: BundleKeeper, clock: list[float], later: Later
) -> None:
    bump_version()
    keeper.policy_changed()
    assert len(later.waiting) == 1
    later.go()
    bump_version()
    keeper.policy_changed()
    assert not later.waiting
    clock[0] = 2.0
    keeper.policy_changed()
    assert len(later.waiting) == 1


def test_what_this_process_commits_is_told_to_its_keeper(
    django_capture_on_commit_callbacks: Any, settings: Any
) -> None:
    settings.BUNDLE_REFRESH_SECONDS = 0
    factories.scope()
    before = current_bundle()
    keeper = bundles._keeper
    assert keeper is not None
    with django_capture_on_commit_callbacks(execute=True):
        bump_version()
    assert keeper._built is not None
    assert keeper._built.bundle.version != before.version


def test_a_change_before_there_is_a_bundle_builds_none() -> None:
    forget_bundle()
    policy_changed.send(sender=None)
    assert bundles._keeper is None


def test_a_new_snapshot_alone_reads_no_policy_again(django_assert_max_num_queries: Any) -> None:
    factories.scope()
    first = bundles.build(None)
    with django_assert_max_num_queries(2):
        again = bundles.build(first)
    assert again.bundle.standing is first.bundle.standing
    assert again.bundle.views is first.bundle.views


@pytest.fixture
def other_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Thread]]:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    yield started
    for thread in started:
        thread.join(10)


def test_a_rebuild_in_its_thread_does_not_hold_a_selection_up(
    monkeypatch: pytest.MonkeyPatch, other_thread: list[threading.Thread]
) -> None:
    factories.scope()
    begun, go_on = threading.Event(), threading.Event()
    keeper = BundleKeeper(0, run=apart)
    first = keeper.current()
    bump_version()
    # Read here: what a test has not committed, no other thread sees.
    second = bundles.build(None)

    def slowly(_: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return second

    monkeypatch.setattr(bundles, "build", slowly)
    assert keeper.current() is first
    assert begun.wait(10)
    assert keeper.current() is first  # the rebuild cannot end before go_on, so nobody waited for it
    assert keeper.current() is first
    go_on.set()
    [thread] = other_thread
    thread.join(10)
    assert keeper.current() is second.bundle


def test_the_thread_runs_its_work_and_closes_its_connections_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, other_thread: list[threading.Thread]
) -> None:
    closed, ran = threading.Event(), threading.Event()
    monkeypatch.setattr("routing.bundle.connections.close_all", closed.set)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def work() -> None:
        ran.set()
        raise OperationalError("away")

    apart(work)
    assert closed.wait(10)
    assert ran.is_set()
    [thread] = other_thread
    thread.join(10)
    assert thread.daemon


def test_a_forked_child_builds_a_bundle_of_its_own() -> None:
    factories.scope()
    current_bundle()
    bundles._keeper_lock.acquire()  # as a thread of the parent's might hold it
    child = os.fork()
    if child == 0:
        os._exit(0 if bundles._keeper is None and not bundles._keeper_lock.locked() else 1)
    bundles._keeper_lock.release()
    assert os.waitpid(child, 0)[1] == 0
    assert bundles._keeper is not None
