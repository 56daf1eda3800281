"""Adds new migrations to FROZEN; refuses if a landed one has changed.

Run ``python -m telemetry.clickhouse_migrations.freeze`` when a migration lands.
"""

import sys

from telemetry.clickhouse_migrations import runner


def changed() -> list[str]:
    """Landed migrations that are not as they were, by name."""
    current = {migration.name: runner.hash_of(migration) for migration in runner.migrations()}
    return [name for name, digest in runner.frozen().items() if current.get(name) != digest]


def main() -> int:
    if names := changed():
        sys.stderr.write(f"{', '.join(names)}: landed migrations are frozen: add a new one\n")
        return 1
    lines = [f"{migration.name} {runner.hash_of(migration)}\n" for migration in runner.migrations()]
    runner.FROZEN.write_text("".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
