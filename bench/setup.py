"""A database, a data folder and ClickHouse of the bench's own, gone at the end."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def own_environment() -> Iterator[Path]:
    """Point the product at a temporary folder; call before Django is set up."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DATA_DIR": folder,
            "LOG_LEVEL": "ERROR",
            "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3",
            "CLICKHOUSE_URL": f"chdb://{folder}/clickhouse?database=bench",
        }
        import django
        from django.conf import settings
        from django.core.management import call_command

        django.setup()
        # As in production: DEBUG keeps every query in memory.
        settings.DEBUG = False
        settings.ALLOWED_HOSTS = ["testserver"]
        call_command("migrate", verbosity=0)
        yield Path(folder)


@contextmanager
def engines(wanted: str) -> Iterator[dict[str, str]]:
    """URLs of the engines to measure: chdb, native (a real server, when installed), or both."""
    from tests.services import ServiceMissing, clickhouse_server

    urls: dict[str, str] = {}
    with ExitStack() as running:
        if wanted in ("chdb", "both"):
            urls["chdb"] = os.environ["CLICKHOUSE_URL"]
        if wanted in ("native", "both"):
            try:
                urls["native"] = running.enter_context(clickhouse_server()).url("bench")
            except ServiceMissing as reason:
                print(f"SKIPPED on a server: {reason}")
        yield urls


@contextmanager
def engine(url: str) -> Iterator[None]:
    """Make this ClickHouse the product's, migrated."""
    from django.conf import settings

    from telemetry.clickhouse import close_clickhouse, get_clickhouse
    from telemetry.clickhouse_migrations import runner

    settings.CLICKHOUSE_URL = url
    close_clickhouse()
    clickhouse = get_clickhouse()
    clickhouse.ensure_database()
    runner.migrate(clickhouse)
    yield
    close_clickhouse()
