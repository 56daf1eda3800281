"""The audit log proves itself: the database refuses changes, and verifying finds those made behind its back."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from overrides import services
from overrides.audit import Actor, verify
from overrides.models import AuditEntry, AuditHead
from overrides.services import Wish
from tests import factories

pytestmark = pytest.mark.django_db
ME = Actor("user:me", "admin")


@pytest.fixture(autouse=True)
def five() -> None:
    factories.scope()
    for number in range(5):
        wish = Wish("prefer", "gpt-5.4", f"reason number {number}", tenant="aurora")
        services.create_override(wish, ME, timezone.now())


@contextmanager
def behind_its_back() -> Iterator[None]:
    """What somebody with the database's own password could do."""
    made, dropped = import_module("overrides.migrations.0003_audit_append_only").STATEMENTS[connection.vendor]
    with connection.cursor() as cursor:
        for statement in dropped:
            cursor.execute(statement)
        yield
        for statement in made:
            cursor.execute(statement)


def test_a_log_as_it_was_written_verifies() -> None:
    out = StringIO()
    call_command("audit", "verify", stdout=out)
    assert out.getvalue().startswith("5 entries, all as they were written")
    assert verify().last_hash == AuditHead.objects.get().hash


def test_an_empty_log_verifies() -> None:
    with behind_its_back():
        AuditEntry.objects.all().delete()
        AuditHead.objects.all().delete()
    assert verify().broken_at is None


def test_the_database_refuses_updates_and_deletes() -> None:
    entry = AuditEntry.objects.get(seq=3)
    entry.reason = "something nicer"
    for attempt in (entry.save, entry.delete, AuditEntry.objects.all().delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    assert verify().entries == 5


def test_an_edit_is_found_at_its_entry() -> None:
    with behind_its_back():
        AuditEntry.objects.filter(seq=3).update(reason="something nicer")
    verdict = verify()
    assert (verdict.broken_at, verdict.entries) == (3, 2)
    assert "altered" in verdict.why
    with pytest.raises(CommandError, match="breaks at entry 3"):
        call_command("audit", "verify")


def test_an_edit_with_a_fitting_hash_breaks_the_next_link() -> None:
    from overrides.audit import hash_of

    entry = AuditEntry.objects.get(seq=3)
    entry.reason = "something nicer"
    with behind_its_back():
        AuditEntry.objects.filter(seq=3).update(reason=entry.reason, hash=hash_of(entry))
    assert verify().broken_at == 4


def test_a_deleted_entry_is_found() -> None:
    with behind_its_back():
        AuditEntry.objects.filter(seq=2).delete()
    verdict = verify()
    assert (verdict.broken_at, verdict.why) == (2, "entry 2 is missing")


def test_swapped_entries_are_found() -> None:
    with behind_its_back():
        for old, new in ((2, 99), (3, 2), (99, 3)):
            AuditEntry.objects.filter(seq=old).update(seq=new)
    assert verify().broken_at == 2


def test_a_cut_tail_is_found_by_the_head() -> None:
    with behind_its_back():
        AuditEntry.objects.filter(seq__gt=3).delete()
    verdict = verify()
    assert (verdict.broken_at, verdict.entries) == (4, 3)
    assert "ends before its head, entry 5" in verdict.why


def test_the_log_is_exported_as_lines_of_json(tmp_path: Path) -> None:
    target = tmp_path / "audit.ndjson"
    out = StringIO()
    call_command("audit", "export", "--output", str(target), stdout=out)
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[4]["previous_hash"] == rows[3]["hash"]
    assert "5 entries written" in out.getvalue()
    with pytest.raises(CommandError, match="File exists"):
        call_command("audit", "export", "--output", str(target))


def test_a_spreadsheet_runs_nothing_of_it(tmp_path: Path) -> None:
    for start in "=+-@":
        wish = Wish("prefer", "gpt-5.4", f"{start}cmd|' /C calc'!A0", tenant="aurora")
        services.create_override(wish, ME, timezone.now())
    target = tmp_path / "audit.csv"
    call_command("audit", "export", "--format", "csv", "--output", str(target), stdout=StringIO())
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["reason"][0] not in "=+-@" for row in rows)
    assert rows[-1]["reason"].startswith("'@cmd")
    assert json.loads(rows[0]["after"])["profile"] == "gpt-5.4"


def test_an_export_is_of_a_tenant_and_since_a_time(tmp_path: Path) -> None:
    factories.tenant("borealis")
    services.create_override(Wish("prefer", "gpt-5.4", "for borealis", tenant="borealis"), ME, timezone.now())
    services.create_override(Wish("prefer", "gpt-5.4", "for everybody"), ME, timezone.now())

    def export(*options: str) -> list[int]:
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}.ndjson"
        call_command("audit", "export", "--output", str(target), *options, stdout=StringIO())
        return [json.loads(line)["seq"] for line in target.read_text().splitlines()]

    assert export("--tenant", "borealis") == [6, 7]
    assert export("--since", "2100-01-01T00:00:00Z") == []
    with pytest.raises(CommandError, match="--since"):
        export("--since", "yesterday")
