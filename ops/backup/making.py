"""Making a backup: the Django database first, then ClickHouse.

The order is what makes it complete. An event leaves the spool only after ClickHouse has it, so whatever was accepted
before the backup began is in the copy of the spool, or in the ClickHouse that is read after it, or in both, which
counts once. The other way round, what was drained in between would be in neither.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from ops.backup import BackupError, manifest, rows
from ops.backup.database import engine
from ops.backup.manifest import Audit, Database, Manifest, Part
from overrides import audit, checkpoints
from telemetry.clickhouse import ClickHouse

PREFIX = "selection-"
_UNFINISHED = ".part"
_CHECKPOINT = "audit-checkpoint.jsonl"


@dataclass(frozen=True, slots=True)
class Told:
    """Who is told how it goes: of a step that begins, and of rows written."""

    step: Callable[[str], None] = lambda step: None
    rows: Callable[[str, int], None] = lambda table, count: None


@dataclass(frozen=True, slots=True)
class Made:
    folder: Path
    manifest: Manifest
    removed: list[Path] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(part.bytes for part in self.manifest.parts)


def make(
    into: Path, door: ClickHouse | None, clock: Callable[[], datetime], told: Told, keep: int | None = None
) -> Made:
    """Back up into a new folder below ``into``; then delete all but the newest ``keep`` there.

    ``door`` None: without ClickHouse. Raises BackupError, ClickHouseError and OSError; then nothing is left behind.
    """
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(into):
        for left in into.glob(f"{PREFIX}*{_UNFINISHED}"):
            shutil.rmtree(left)  # of a backup that was killed
        began = clock()
        folder = into / f"{PREFIX}{began:%Y%m%dT%H%M%SZ}"
        draft = folder.with_name(folder.name + _UNFINISHED)
        if folder.exists():
            raise BackupError(f"{folder} is there already.")
        draft.mkdir(mode=0o700)
        try:
            made = _write(draft, door, began, clock, told)
            _sync(draft)
            draft.rename(folder)
            _sync_one(into)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return Made(folder, made, _remove_old(into, keep))


@contextmanager
def _alone(into: Path) -> Iterator[None]:
    with (into / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"Another backup into {into} is running.") from None
        yield


def _write(
    draft: Path, door: ClickHouse | None, began: datetime, clock: Callable[[], datetime], told: Told
) -> Manifest:
    if door is not None:
        # Before the work: a ClickHouse that is away would be found out at its end.
        door.ping()
    told.step("audit log")
    logged = _audit(began)
    parts: list[Part] = []
    if logged.checkpoint is not None:
        (draft / _CHECKPOINT).write_text(logged.checkpoint + "\n")
        parts.append(manifest.part_of(draft, draft / _CHECKPOINT))
    told.step("Django database")
    database = _database(draft)
    parts.append(manifest.part_of(draft, draft / database.file))
    saved = None
    if door is not None:
        told.step("ClickHouse")
        saved, files = rows.save(door, draft, told.rows)
        parts += files
    made = Manifest(
        format=1,
        began_at=began,
        ended_at=clock(),
        database=database,
        clickhouse=saved,
        audit=logged,
        parts=tuple(parts),
    )
    manifest.write(draft, made)
    return made


def _audit(now: datetime) -> Audit:
    """The chain verified, and its end signed. A broken one is backed up as well: it is evidence."""
    verdict = audit.verify()
    problem = None
    if verdict.broken_at is not None:
        problem = f"The chain breaks at entry {verdict.broken_at}: {verdict.why}."
    checkpoint = None
    if verdict.entries:
        key = checkpoints.private_key(settings.AUDIT_SIGNING_KEY)
        checkpoint = checkpoints.sign(verdict.entries, verdict.last_hash, now, key).line()
    return Audit(entries=verdict.entries, checkpoint=checkpoint, problem=problem)


def _database(draft: Path) -> Database:
    chosen = engine()
    migrations = sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations())
    return Database(
        vendor=connection.vendor,
        server=chosen.server(),
        migrations=tuple(migrations),
        tables=chosen.dump(draft / chosen.FILE),
        file=chosen.FILE,
    )


def _sync(draft: Path) -> None:
    for path in draft.rglob("*"):
        _sync_one(path)
    _sync_one(draft)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_old(into: Path, keep: int | None) -> list[Path]:
    if keep is None:
        return []
    # Names are times. Only whole backups count, so that none is deleted in favour of half a one.
    whole = sorted(path.parent for path in into.glob(f"{PREFIX}*/{manifest.FILE}"))
    old = [path for path in whole[:-keep] if not path.name.endswith(_UNFINISHED)]
    for path in old:
        shutil.rmtree(path)
    return old
