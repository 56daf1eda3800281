"""What every test needs: nothing kept from the test before."""

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django.fixtures import Settings

from catalog import access, directory
from catalog.outage import outage
from routing import archive, bundle, journal, serving
from routing.repeats import repeats
from routing.storing.committing import believed
from routing.storing.lanes import lanes
from tests.services import RedisServer, ServiceMissing, redis
from tests.telemetry.engines import missing

# How long a draw or an example takes says more about the machine than about the code. In CI the examples
# are the same each time, so that a failure there is one that can be seen again.
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
hypothesis_settings.load_profile("tests")


#: Of few tests, but of minutes: what begins last should be short, or one process waits for the other at the end.
_LONG = (
    "faults/test_selections",
    "faults/test_telemetry",
    "flows",
    "browser",
    "telemetry/test_cluster",
    "commandcenter/test_commands",
    "test_notebooks",
    "demo",
    "runbooks/test_runbooks",
)


def _uses_the_database(item: pytest.Item) -> bool:
    named = {"db", "transactional_db", "django_db_setup", "live_server"}
    is_case = (
        isinstance(item, pytest.Function)
        and item.cls is not None
        and issubclass(item.cls, TransactionTestCase)
    )
    return is_case or item.get_closest_marker("django_db") is not None or bool(named & {*item.fixturenames})  # type: ignore[attr-defined]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take long go first; the others keep their order. On another database, only what knows of one."""
    if os.environ.get("DATABASE_BOUND") == "1":
        others = [item for item in items if not _uses_the_database(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in {*others}]

    def is_short(item: pytest.Item) -> bool:
        return not item.nodeid.startswith(tuple(f"tests/{name}" for name in _LONG))

    items.sort(key=is_short)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite in a file, as in life: in memory, a live server's threads and the test's would share one connection, and
    lock each other out. It need not survive a power cut, so it is not synchronised."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"] = {
            **database.get("TEST", {}),
            "NAME": str(tmp_path_factory.mktemp("db") / "test.sqlite3"),
        }
        begin = database["OPTIONS"]["init_command"].replace("synchronous=FULL", "synchronous=OFF")
        database["OPTIONS"]["init_command"] = begin


@pytest.fixture(scope="session", autouse=True)
def _flush_despite_triggers() -> Iterator[None]:
    """Between transactional tests the database is emptied, which the audit log's triggers refuse: outside
    tests that is what they are for."""
    from django.core.management.commands.flush import Command
    from django.db import connection

    statements = import_module("overrides.migrations.0003_audit_append_only").STATEMENTS
    handle = Command.handle

    def emptied(self: Command, **options: Any) -> None:
        # Flushing makes the flag's row anew, and a kept bundle would follow that change: it would archive its policy
        # in the database that the next test starts with.
        bundle.forget_bundle()
        made, dropped = statements[connection.vendor]
        with connection.cursor() as cursor:
            for statement in dropped:
                cursor.execute(statement)
        # Waffle's own flag tables, which stay empty, refer to users and are no model of ours.
        handle(self, **{**options, "allow_cascade": True})
        with connection.cursor() as cursor:
            for statement in made:
                cursor.execute(statement)

    Command.handle = emptied  # type: ignore[method-assign]
    yield
    Command.handle = handle  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def _nothing_kept(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases are rolled back between tests, so versions repeat, and what was kept would look current.
    Files go to a folder of the test's own. Bundles are rebuilt where they are asked for: no other thread sees
    what a test has not committed."""
    settings.DATA_DIR = tmp_path
    # A password is made hard to guess by half a second of work, each time that somebody is made or signs in.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # Nothing listens there. A test that wants an engine says which: a process opens one chDB folder, ever.
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    monkeypatch.setattr(bundle, "run", bundle.at_once)
    for cache in caches.all(initialized_only=True):
        cache.clear()
    access.forget_keys()
    directory.forget()
    bundle.forget_bundle()
    archive.archive.forget()
    serving.policy_server.forget()
    journal.journal.close()
    lanes.close()
    believed.forget()
    outage.end()
    repeats.forget()


@pytest.fixture
def broker() -> Iterator[RedisServer]:
    """A Redis of the test's own; it may leave it paused."""
    try:
        with redis() as started:
            yield started
    except ServiceMissing as reason:
        missing(reason)
