"""The audit log proves itself: the database refuses changes, and verifying finds those made behind its back."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO

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
