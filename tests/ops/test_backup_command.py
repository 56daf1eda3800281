"""`manage.py backup` and `restore --check`: what is written, what is refused, and that nothing half is left."""

import json
import resource
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from ops.backup import BackupError, manifest, sqlite
from ops.backup.making import Told, make
from overrides import services
from overrides.audit import Actor
from overrides.models import AuditEntry
from overrides.services import Wish
from tests import factories

# What a backup copies is what is committed.
pytestmark = pytest.mark.django_db(transaction=True)
QUIET = ("--no-progress",)


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture(autouse=True)
def _used() -> None:
    factories.scope()
    services.create_override(
        Wish("prefer", "gpt-5.4", "a reason that will do"), Actor("user:me", "admin"), timezone.now()
    )


def backup(into: Path, *options: str) -> Path:
    """A backup of the Django database alone."""
    call_command("backup", "--to", str(into), "--without-clickhouse", *QUIET, *options, stdout=StringIO())
    return max(into.glob("selection-*"))


def check(folder: Path, *options: str) -> str:
    out = StringIO()
    call_command("restore", "--from", str(folder), "--check", *QUIET, *options, stdout=out)
    return out.getvalue()


def altered(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest as its owner would: signed again."""
    told = json.loads((folder / manifest.FILE).read_text())
    change(told)
    manifest.write(folder, manifest.Manifest.model_validate(told))


def test_a_backup_is_whole_private_and_says_what_it_holds(backups: Path) -> None:
    folder = backup(backups)
    assert "as it was made at 20" in check(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    told = manifest.read(folder, None)
    assert told.database.tables["catalog_tenant"] == 1
    assert "overrides.0003_audit_append_only" in told.database.migrations
    with closing(sqlite3.connect(folder / told.database.file)) as copy:
        assert copy.execute("SELECT slug FROM catalog_tenant").fetchall() == [("aurora",)]


def test_no_key_and_nobodys_session_is_in_a_backup(backups: Path, settings: Settings) -> None:
    session = SessionStore()
    session["who"] = "me"
    session.create()
    folder = backup(backups)
    held = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in (settings.SECRET_KEY, settings.AUDIT_SIGNING_KEY, str(session.session_key)):
        assert secret.encode() not in held


def test_its_checkpoint_verifies_the_log_it_was_made_of(backups: Path) -> None:
    folder = backup(backups)
    out = StringIO()
    call_command("audit", "verify", "--checkpoints", str(folder / "audit-checkpoint.jsonl"), stdout=out)
    assert "1 checkpoints, all fit" in out.getvalue()


def test_one_flipped_bit_in_any_file_is_found(backups: Path) -> None:
    folder = backup(backups)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(CommandError, match=r"damaged|altered|missing|not trusted"):
            check(folder)
        path.write_bytes(whole)
    assert check(folder)


def test_a_missing_file_and_one_outside_of_the_backup_are_refused(backups: Path) -> None:
    folder = backup(backups)
    (folder / "database.sqlite3").rename(backups / "elsewhere")
    with pytest.raises(CommandError, match=r"database\.sqlite3 is missing from the backup"):
        check(folder)

    def lead_outside(told: dict[str, Any]) -> None:
        told["parts"][-1]["path"] = "../elsewhere"

    altered(folder, lead_outside)
    with pytest.raises(CommandError, match="lies outside of the backup"):
        check(folder)


def test_a_backup_that_another_key_signed_needs_to_be_told_so(backups: Path, settings: Settings) -> None:
    folder = backup(backups)
    settings.AUDIT_SIGNING_KEY = "c2lnbmVkIGJ5IHNvbWVib2R5IGVsc2UgdGhhbiB1czE="
    with pytest.raises(CommandError, match="signed by a key that is not trusted here"):
        check(folder)
    assert check(folder, "--unsigned")


def test_a_backup_of_a_newer_version_or_another_engine_is_refused(backups: Path) -> None:
    folder = backup(backups)

    def from_the_future(told: dict[str, Any]) -> None:
        told["database"]["migrations"] = ["catalog.9999_from_the_future"]

    altered(folder, from_the_future)
    with pytest.raises(
        CommandError, match=r"made by a newer version: .* no migration catalog\.9999_from_the"
    ):
        check(folder)

    def of_postgres(told: dict[str, Any]) -> None:
        told["database"].update(vendor="postgresql", migrations=[])

    altered(folder, of_postgres)
    with pytest.raises(CommandError, match="is of a postgresql database; DATABASE_URL names a sqlite one"):
        check(folder)


def test_a_folder_of_backups_is_no_backup_but_leads_to_them(backups: Path) -> None:
    folder = backup(backups)
    with pytest.raises(CommandError, match=rf"is no backup: .* Name one of those below it: {folder.name}\."):
        check(backups)


def test_a_database_in_use_is_not_replaced_unless_told(backups: Path) -> None:
    folder = backup(backups)
    with pytest.raises(CommandError, match="not empty; --force replaces what is in it"):
        call_command("restore", "--from", str(folder), *QUIET)


def test_a_database_that_stays_locked_is_not_waited_for_for_ever(
    backups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = backup(backups) / sqlite.FILE
    busy = tmp_path / "busy.sqlite3"
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.0)
    monkeypatch.setitem(connection.settings_dict, "NAME", str(busy))
    with closing(sqlite3.connect(busy, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            BackupError, match=r"busy\.sqlite3 could not be replaced: it is locked by another"
        ):
            sqlite.load(copy)
        other.execute("ROLLBACK")
    sqlite.load(copy)
    with closing(sqlite3.connect(busy)) as database:
        assert database.execute("SELECT slug FROM catalog_tenant").fetchall() == [("aurora",)]


def test_without_clickhouse_there_is_no_backup_and_no_half_of_one(backups: Path) -> None:
    with pytest.raises(CommandError, match=r"ClickHouse: .*Nothing was backed up"):
        call_command("backup", "--to", str(backups), *QUIET)
    assert list(backups.glob("selection-*")) == []


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What a full disk does, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_leaves_the_earlier_backup_alone(backups: Path) -> None:
    earlier = make(backups, None, lambda: factories.NOW, Told()).folder
    with files_of_at_most(50_000), pytest.raises(CommandError, match="Nothing was backed up"):
        backup(backups)
    assert list(backups.glob("selection-*")) == [earlier]
    assert check(earlier)


def test_what_a_killed_backup_left_is_cleared_by_the_next(backups: Path) -> None:
    left = backups / "selection-20261101T000000Z.part"
    left.mkdir(parents=True)
    backup(backups)
    assert not left.exists()


def test_two_backups_at_once_do_not_meet(backups: Path) -> None:
    def another(step: str) -> None:
        if step == "Django database":
            with pytest.raises(CommandError, match=r"Another backup into .* is running"):
                backup(backups)

    make(backups, None, timezone.now, Told(step=another))


def test_the_newest_are_kept_and_half_ones_do_not_count(backups: Path) -> None:
    for day in range(1, 5):
        make(backups, None, lambda day=day: datetime(2026, 11, day, tzinfo=UTC), Told())  # type: ignore[misc]
    (backups / "selection-20261201T000000Z").mkdir()  # somebody's, without a manifest
    made = make(backups, None, lambda: datetime(2026, 11, 5, tzinfo=UTC), Told(), keep=2)
    days = [f"selection-2026110{day}T000000Z" for day in (1, 2, 3)]
    assert [path.name for path in made.removed] == days
    assert sorted(path.name[10:18] for path in backups.glob("selection-*")) == [
        "20261104",
        "20261105",
        "20261201",
    ]


def test_a_broken_audit_log_is_backed_up_and_told(backups: Path) -> None:
    made, dropped = import_module("overrides.migrations.0003_audit_append_only").STATEMENTS[connection.vendor]
    with connection.cursor() as cursor:
        for statement in dropped:
            cursor.execute(statement)
        AuditEntry.objects.update(reason="as if it had been so")
        for statement in made:
            cursor.execute(statement)
    with pytest.raises(CommandError, match=r"The backup is whole, but the audit log is not\. .*entry 1"):
        backup(backups)
    assert check(max(backups.glob("selection-*")))
