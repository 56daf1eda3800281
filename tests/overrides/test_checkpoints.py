"""Checkpoints find what the chain cannot: a log whose entries, hashes and head were all rewritten."""

import base64
import errno
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django.fixtures import Settings

from overrides import checkpoints, services
from overrides.audit import GENESIS, Actor, hash_of, verify
from overrides.checkpoints import Checkpoint, Misfit
from overrides.models import AuditEntry, AuditHead
from overrides.services import Wish
from overrides.tasks import write_audit_checkpoint
from tests import factories

pytestmark = pytest.mark.django_db
ME = Actor("user:me", "admin")
NOW = factories.NOW


def add(count: int) -> None:
    for number in range(count):
        wish = Wish("prefer", "gpt-5.4", f"reason number {number}", tenant="aurora")
        services.create_override(wish, ME, NOW)


def at(minute: int) -> datetime:
    return NOW + timedelta(minutes=minute)


@pytest.fixture
def file(settings: Settings) -> Path:
    """Twenty entries, checkpointed at 4, 12 and 20."""
    factories.scope()
    for minute, count in enumerate((4, 8, 8)):
        add(count)
        checkpoints.write(at(minute))
    return checkpoints.checkpoint_file()


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


def cut_after(seq: int) -> None:
    """Delete the end of the log, and set the head to what is left."""
    with behind_its_back():
        AuditEntry.objects.filter(seq__gt=seq).delete()
        AuditHead.objects.update(seq=seq, hash=AuditEntry.objects.get(seq=seq).hash)


def rewrite(seq: int, **changes: Any) -> None:
    """Edit an entry, and hash it and all that follow again, the head included."""
    with behind_its_back():
        previous = GENESIS
        for entry in AuditEntry.objects.order_by("seq"):
            if entry.seq == seq:
                for name, value in changes.items():
                    setattr(entry, name, value)
            entry.previous_hash = previous
            previous = entry.hash = hash_of(entry)
            entry.save()
        AuditHead.objects.update(hash=previous)


def verified(*options: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("audit", "verify", *options, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def refused(*options: str) -> str:
    with pytest.raises(CommandError) as refusal:
        verified(*options)
    assert refusal.value.returncode == 1
    return str(refusal.value)


def edit(file: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    lines = file.read_text().splitlines()
    told = json.loads(lines[number])
    change(told)
    lines[number] = json.dumps(told)
    file.write_text("\n".join(lines) + "\n")


def test_a_log_that_nobody_touched_fits(file: Path) -> None:
    add(2)
    out, err = verified()
    assert "3 checkpoints, all fit. The last is of entry 20" in out
    assert "2 entries are newer" in out
    assert err == ""


def test_a_cut_tail_with_a_rewritten_head_passes_the_chain_and_is_found_by_checkpoints(file: Path) -> None:
    cut_after(12)
    assert verify().broken_at is None
    told = refused()
    assert told == f"Entries 13 to 20 were checkpointed at {at(2).isoformat()}, but the log ends at 12."


def test_a_log_cut_between_checkpoints_is_found(file: Path) -> None:
    cut_after(15)
    assert "Entries 16 to 20 were checkpointed" in refused()


def test_a_tail_replaced_by_another_of_the_same_length_is_found(file: Path) -> None:
    cut_after(12)
    add(8)
    assert verify().broken_at is None
    assert "One of the entries 13 to 20 was rewritten" in refused()


def test_an_edit_with_the_whole_chain_hashed_again_is_found_between_two_checkpoints(file: Path) -> None:
    rewrite(7, reason="something nicer")
    assert verify().broken_at is None
    told = refused()
    assert "One of the entries 5 to 12 was rewritten" in told
    assert at(1).isoformat() in told


def test_an_emptied_log_is_found(file: Path) -> None:
    with behind_its_back():
        AuditEntry.objects.all().delete()
        AuditHead.objects.all().delete()
    assert "Entries 1 to 4 were checkpointed" in refused()


@pytest.mark.parametrize(
    ("name", "value"), [("hash", "0" * 64), ("at", "2030-01-01T00:00:00+00:00"), ("seq", 13)]
)
def test_a_changed_checkpoint_is_forged(file: Path, name: str, value: Any) -> None:
    edit(file, 1, lambda told: told.update({name: value}))
    assert "is forged: its signature does not hold" in refused()


def test_a_signature_by_another_key_under_our_keys_name_is_forged(file: Path) -> None:
    cut_after(12)
    mine = Ed25519PrivateKey.generate()
    last = AuditEntry.objects.get(seq=12)
    made = checkpoints.sign(12, last.hash, at(9), mine)
    ours = next(iter(checkpoints.trusted_keys()))
    file.write_text(Checkpoint(made.seq, made.hash, made.at, ours, made.signature).line() + "\n")
    assert "is forged" in refused()


def test_a_checkpoint_by_a_strangers_key_is_not_trusted(file: Path) -> None:
    last = AuditEntry.objects.get(seq=20)
    strange = checkpoints.sign(20, last.hash, at(9), Ed25519PrivateKey.generate())
    with file.open("a") as out:
        out.write(strange.line() + "\n")
    assert f"is signed by no trusted key ({strange.key_id})" in refused()


def test_a_last_line_that_was_cut_off_is_told_the_others_are_checked_and_the_next_is_whole(
    file: Path,
) -> None:
    text = file.read_text()
    file.write_text(text[:-40])
    out, err = verified()
    assert "2 checkpoints, all fit" in out
    assert "the last line has no end" in err
    cut = file.read_text()
    checkpoints.write(at(5))
    assert file.read_text().startswith(cut + "\n")
    out, err = verified()
    assert "3 checkpoints, all fit. The last is of entry 20" in out
    assert "1 lines are no checkpoints" in err


def test_a_missing_file_is_told_and_one_that_was_named_must_be_there(file: Path, tmp_path: Path) -> None:
    file.unlink()
    out, err = verified()
    assert "20 entries, all as they were written" in out
    assert f"There is no checkpoint file {file}" in err
    with pytest.raises(CommandError, match="No such file"):
        verified("--checkpoints", str(file))
    empty = tmp_path / "empty"
    empty.touch()
    assert "there is no checkpoint in it" in verified("--checkpoints", str(empty))[1]


def test_shipped_logs_can_be_verified_when_the_file_is_gone(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(1)
    with caplog.at_level(logging.INFO, "overrides.checkpoints"):
        checkpoints.write(at(3))
    file.unlink()
    shipped = tmp_path / "web.log"
    shipped.write_text(f"2026-11-20 12:32:31 INFO x something else\n2026-11-20 INFO x {caplog.messages[0]}\n")
    assert "1 checkpoints, all fit. The last is of entry 21" in verified("--checkpoints", str(shipped))[0]
    cut_after(20)
    assert "Entries 21 to 21 were checkpointed" in refused("--checkpoints", str(shipped))


def test_nothing_is_written_while_nothing_is_added(file: Path) -> None:
    before = file.read_text()
    assert checkpoints.write(at(10)) is None
    assert write_audit_checkpoint() == 0
    assert file.read_text() == before
    add(1)
    assert write_audit_checkpoint() == 21
    assert len(file.read_text().splitlines()) == 4


def test_an_empty_log_gets_no_checkpoint() -> None:
    assert checkpoints.write(NOW) is None


@pytest.mark.parametrize(
    "tamper",
    [
        lambda: cut_after(15),
        lambda: rewrite(19, reason="something nicer"),
        lambda: rewrite(3, actor="user:else"),
    ],
    ids=["cut", "edited", "edited long ago"],
)
def test_a_log_that_was_tampered_with_gets_no_checkpoint_and_is_told_each_time(
    file: Path, tamper: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = file.read_text()
    tamper()
    for _ in range(2):
        caplog.clear()
        assert write_audit_checkpoint() == 0
        assert "TAMPERED" in caplog.text
    assert file.read_text() == before
    with pytest.raises(CommandError, match="Nothing was signed"):
        call_command("audit", "checkpoint")


def test_an_entry_edited_since_the_last_checkpoint_is_not_signed(file: Path) -> None:
    add(2)
    with behind_its_back():
        AuditEntry.objects.filter(seq=21).update(reason="something nicer")
    with pytest.raises(Misfit, match="breaks at entry 21: it was altered"):
        checkpoints.write(at(4))


def test_a_file_that_cannot_be_written_is_told_and_tried_again(
    file: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    folder = file.parent / "folder"
    folder.mkdir()
    settings.AUDIT_CHECKPOINT_FILE = folder
    assert write_audit_checkpoint() == 0
    assert f"no audit checkpoint: {folder}: Is a directory" in caplog.text
    with pytest.raises(CommandError, match="Is a directory"):
        call_command("audit", "checkpoint")
    settings.AUDIT_CHECKPOINT_FILE = file.parent / "not" / "yet" / "there"
    assert write_audit_checkpoint() == 20


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_full_disk_leaves_no_half_line_and_no_checkpoint(
    file: Path, failing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = file.read_text()
    add(1)
    write = os.write

    def full(descriptor: int, *data: bytes) -> int:
        if data:
            write(descriptor, data[0][:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, failing, full)
        assert write_audit_checkpoint() == 0
    assert "No space left on device" in caplog.text
    assert file.read_text() == before
    assert write_audit_checkpoint() == 21


def test_after_a_rotation_earlier_checkpoints_are_verified_by_the_earlier_public_key(
    file: Path, settings: Settings
) -> None:
    old = checkpoints.public_text(checkpoints.private_key(settings.AUDIT_SIGNING_KEY).public_key())
    settings.AUDIT_SIGNING_KEY = base64.b64encode(b"n" * 32).decode()
    assert "signed by no trusted key" in refused()
    settings.AUDIT_PUBLIC_KEYS = (old,)
    add(1)
    made = checkpoints.write(at(5))
    assert made is not None
    assert made.seq == 21
    assert "4 checkpoints, all fit" in verified()[0]


def test_an_auditor_with_a_copy_and_the_public_key_needs_nothing_else(
    file: Path, settings: Settings, tmp_path: Path
) -> None:
    out = StringIO()
    call_command("audit", "key", stdout=out)
    public = next(line for line in out.getvalue().splitlines() if line.startswith("public key: "))
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    settings.AUDIT_SIGNING_KEY = base64.b64encode(b"n" * 32).decode()
    options = ["--checkpoints", str(copy), "--public-key", public.removeprefix("public key: ")]
    assert "3 checkpoints, all fit" in verified(*options)[0]
    cut_after(12)
    assert "the log ends at 12" in refused(*options)
    with pytest.raises(CommandError, match="32 bytes in base64"):
        verified("--public-key", "AAAA")


def test_a_new_key_is_printed_in_pairs_and_the_private_one_only_then() -> None:
    old, new = StringIO(), StringIO()
    call_command("audit", "key", stdout=old)
    call_command("audit", "key", "--new", stdout=new)
    assert "AUDIT_SIGNING_KEY" not in old.getvalue()
    private, public, _ = new.getvalue().splitlines()
    made = checkpoints.private_key(private.removeprefix("AUDIT_SIGNING_KEY="))
    assert public == f"public key: {checkpoints.public_text(made.public_key())}"


def test_the_chain_is_verified_from_any_entry_on(file: Path) -> None:
    at_12 = AuditEntry.objects.get(seq=12).hash
    assert verify(12, at_12).entries == 20
    assert verify(12, "0" * 64).broken_at == 13
    with behind_its_back():
        AuditEntry.objects.filter(seq=3).update(reason="before that")
    assert verify(12, at_12).broken_at is None
    assert verify().broken_at == 3


def test_entries_after_the_head_and_another_hash_in_the_head_are_found(file: Path) -> None:
    AuditHead.objects.update(seq=19, hash=AuditEntry.objects.get(seq=19).hash)
    assert "not what the head says" in verify().why
    AuditHead.objects.update(seq=20, hash="0" * 64)
    assert "not what the head says" in verify().why
