"""`python -m tests.on_postgres`: the database-bound tests once more, on PostgreSQL."""

import os
import subprocess
import sys
from pathlib import Path

from tests.services import ServiceMissing, postgres

ROOT = Path(__file__).parents[1]
#: What reads or writes the Django database. ClickHouse itself was tried on both engines already.
TESTS = (
    "tests/catalog",
    "tests/commandcenter",
    "tests/observability",
    "tests/overrides",
    "tests/routing",
    "tests/telemetry/test_ingest_api.py",
    "tests/telemetry/test_commands.py",
    "tests/telemetry/test_metrics_api.py",
    "tests/telemetry/test_rollups.py",
)


def main() -> int:
    try:
        with postgres() as url:
            print("The database-bound tests on PostgreSQL:", flush=True)  # noqa: T201
            command = [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-n",
                os.environ.get("WORKERS", "2"),
                "--dist",
                "loadfile",
                "-k",
                "not native",
                *TESTS,
            ]
            environment = {**os.environ, "DATABASE_URL": url, "DATABASE_BOUND": "1"}
            return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    except ServiceMissing as reason:
        print(f"SKIPPED the tests on PostgreSQL: {reason}", flush=True)  # noqa: T201
        return 1 if os.environ.get("REQUIRE_SERVICES") == "1" else 0


if __name__ == "__main__":
    sys.exit(main())
