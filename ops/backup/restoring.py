"""Restoring a backup: nothing is touched before all of it was checked; ClickHouse first, the Django database last.

Afterwards what only holds for the past is put right: roll-ups are asked for again where the copies may differ, versions
and snapshot ids go on above everything that was ever told, and the audit log says that it was restored.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader

from ops.backup import BackupError, manifest, rows
from ops.backup.database import engine, is_used
from ops.backup.making import Told
from ops.backup.manifest import Manifest
from overrides import audit, checkpoints
from overrides.audit import Actor
from overrides.models import AuditEntry
from telemetry import spool
from telemetry.clickhouse import ClickHouse
from telemetry.clickhouse_migrations import runner
from telemetry.models import Lease, RollupClock

#: Between the clocks of web servers and of whoever made the backup, and for commits that were under way.
_CLOCKS = timedelta(hours=1)
#: Snapshots are made once a minute: more than two years of them.
_SNAPSHOT_IDS = 1_000_000
_VERSIONED = ("rollup_5m", "rollup_1h", "rollup_24h", "arms_24h")


@dataclass(slots=True)
class Restored:
    """``dirty``: 5-minute buckets to be rolled up again; ``aside``: where the former checkpoint file went;
    ``problems``: what somebody should look into."""

    entries: int
    dirty: int
    lost_entries: int = 0
    aside: Path | None = None
    problems: list[str] = field(default_factory=list)


def check(folder: Path, *, signed: bool, told: Callable[[str], None]) -> Manifest:
    """Whether a backup is whole and this code can restore it; its manifest. Raises BackupError."""
    found = manifest.read(folder, checkpoints.trusted_keys() if signed else None)
    told(f"checking {len(found.parts)} files")
    manifest.check_parts(folder, found, lambda size: None)
    if found.database.vendor != connection.vendor:
        raise BackupError(
            f"The backup is of a {found.database.vendor} database; DATABASE_URL names a {connection.vendor} one."
        )
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    known_rows = {migration.name for migration in runner.migrations()}
    unknown = sorted(set(found.database.migrations) - known)
    if found.clickhouse:
        unknown += sorted(set(found.clickhouse.migrations) - known_rows)
    if unknown:
        raise BackupError(f"The backup was made by a newer version: this code has no migration {unknown[0]}.")
    return found


def refuse_used(door: ClickHouse | None) -> None:
    """BackupError if something would be destroyed, or is at work."""
    if is_used():
        raise BackupError("The Django database is not empty; --force replaces what is in it.")
    if door is not None and (tables := rows.used(door)):
        raise BackupError(f"ClickHouse is not empty ({', '.join(tables)}); --force replaces what is in it.")
    if count := engine().others():
        raise BackupError(
            f"{count} other connections to the database are open: stop web servers, workers and beat first; --force "
            "goes on all the same."
        )


def restore(
    folder: Path,
    found: Manifest,
    door: ClickHouse,
    clock: Callable[[], datetime],
    told: Told,
    *,
    fill: bool,
) -> Restored:
    """Put a checked backup in place of what is there. ``fill``: ClickHouse's rows too; else they stay as they are.

    Killed or failed midway, it is to be run again. Raises BackupError and ClickHouseError.
    """
    if fill and found.clickhouse is not None:
        told.step("ClickHouse")
        rows.load(door, folder, found.clickhouse, told.rows)
    told.step("Django database")
    engine().load(folder / found.database.file)
    ContentType.objects.clear_cache()
    told.step("migrations")
    call_command("migrate", verbosity=0, interactive=False)
    runner.migrate(door)
    told.step("audit log")
    restored = _verify(found)
    told.step("roll-ups")
    restored.dirty = _go_on(found, door, clock())
    _tell(folder, found, restored, clock())
    return restored


def _verify(found: Manifest) -> Restored:
    verdict = audit.verify()
    restored = Restored(entries=verdict.entries, dirty=0)
    if verdict.broken_at is not None:
        restored.problems.append(f"The audit chain breaks at entry {verdict.broken_at}: {verdict.why}.")
    try:
        if found.audit.checkpoint is not None:
            checkpoint = checkpoints.parse(found.audit.checkpoint.encode())
            checkpoints.check([checkpoint] if checkpoint else [], checkpoints.trusted_keys())
    except checkpoints.Misfit as misfit:
        restored.problems.append(str(misfit))
    _put_aside(restored)
    return restored


def _put_aside(restored: Restored) -> None:
    """Checkpoints of entries that the backup has not are evidence, but no new one could follow on them."""
    file = checkpoints.checkpoint_file()
    try:
        last = max((one.seq for one in checkpoints.read(file).checkpoints), default=0)
        if last <= restored.entries:
            return
        restored.lost_entries = last - restored.entries
        aside = file.with_name(f"{file.name}.before-restore-{file.stat().st_mtime:.0f}")
        file.rename(aside)
        restored.aside = aside
    except FileNotFoundError:
        pass
    except OSError as error:
        restored.problems.append(f"{file} names later entries; move it away by hand: {error.strerror}.")


def _go_on(found: Manifest, door: ClickHouse, now: datetime) -> int:
    Lease.objects.all().delete()
    engine().skip_ids("routing_scoresnapshot", _SNAPSHOT_IDS)
    versions = [door.query(f"SELECT max(version) AS v FROM {table}")[0]["v"] for table in _VERSIONED]  # noqa: S608
    with transaction.atomic():
        RollupClock.objects.get_or_create(id=1)
        clock = RollupClock.objects.select_for_update().get(id=1)
        clock.last_version = max(clock.last_version, *versions)
        clock.save()
    # Events that came in after the database was copied: its marks know nothing of them.
    since = found.began_at - _CLOCKS
    buckets = door.query(
        "SELECT DISTINCT toStartOfFiveMinute(occurred_at) AS bucket FROM completions WHERE received_us >= %(since)s",
        {"since": int(since.timestamp() * 1_000_000)},
        timeout=600,
    )
    spool.mark_dirty((row["bucket"] for row in buckets), now)
    return len(buckets)


def _tell(folder: Path, found: Manifest, restored: Restored, now: datetime) -> None:
    if restored.problems:
        return  # nothing is added to a broken chain
    lost = f"; {restored.lost_entries} later entries are lost" if restored.lost_entries else ""
    with transaction.atomic():
        audit.append(
            Actor("command:restore", "command"),
            AuditEntry.Verb.REPLACE,
            "database",
            folder.resolve().name[:40],
            tenant=None,
            before=None,
            after={"began_at": found.began_at.astimezone(UTC).isoformat(), "entries": restored.entries},
            reason=f"Restored from a backup{lost}.",
            at=now,
        )
