"""Signed notes, kept outside of the database, of what the audit log's last entry was at a time.

The chain shows that entries fit each other. Somebody who can rewrite all of them, and the head, makes another chain
that fits as well; but neither the signatures nor the files and shipped logs that hold them.
"""

import base64
import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings

from overrides import audit
from overrides.models import AuditEntry

log = logging.getLogger(__name__)

#: Before the JSON of a checkpoint in the log, so that logs can be verified as files are.
LOGGED = "audit checkpoint "
#: Signed along, so that a signature made for something else is none of a checkpoint.
_PURPOSE = b"audit checkpoint v1\n"
_TAIL_BYTES = 16_384
_ENTRIES_PER_QUERY = 500

Keys = Mapping[str, Ed25519PublicKey]


class Misfit(Exception):
    """The log is not what was checkpointed, or its chain is broken; the message says where."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Entry ``seq`` was the last one, and had this hash. ``at``: ISO 8601, with a zone; ``signature``: base64."""

    seq: int
    hash: str
    at: str
    key_id: str
    signature: str

    def line(self) -> str:
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds. ``others``: how many lines are no checkpoints; ``torn``: the last one has no end."""

    checkpoints: list[Checkpoint]
    others: int = 0
    torn: bool = False


def checkpoint_file() -> Path:
    return settings.AUDIT_CHECKPOINT_FILE or settings.DATA_DIR / "audit-checkpoints.jsonl"


def private_key(text: str) -> Ed25519PrivateKey:
    """From 32 bytes in base64; ValueError otherwise."""
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text, validate=True))


def public_key(text: str) -> Ed25519PublicKey:
    """From 32 bytes in base64; ValueError otherwise."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def public_text(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode()


def key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def trusted_keys() -> Keys:
    """Ours, and the public keys of those before it, by id."""
    earlier = [public_key(text) for text in settings.AUDIT_PUBLIC_KEYS]
    return {key_id(key): key for key in (private_key(settings.AUDIT_SIGNING_KEY).public_key(), *earlier)}


def sign(seq: int, entry_hash: str, at: datetime, key: Ed25519PrivateKey) -> Checkpoint:
    draft = Checkpoint(seq, entry_hash, at.isoformat(), key_id(key.public_key()), "")
    signature = base64.b64encode(key.sign(_signed(draft))).decode()
    return Checkpoint(draft.seq, draft.hash, draft.at, draft.key_id, signature)


def _signed(checkpoint: Checkpoint) -> bytes:
    content = {name: getattr(checkpoint, name) for name in ("seq", "hash", "at", "key_id")}
    return _PURPOSE + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def genuine(checkpoint: Checkpoint, keys: Keys) -> bool:
    key = keys.get(checkpoint.key_id)
    if key is None:
        return False
    try:
        key.verify(base64.b64decode(checkpoint.signature, validate=True), _signed(checkpoint))
    except (InvalidSignature, ValueError):
        return False
    return True


def read(path: Path) -> Reading:
    """A checkpoint file, or a log that holds checkpoints among other lines. Raises OSError."""
    return _read(path.read_bytes())


def _read(data: bytes) -> Reading:
    lines = data.splitlines()
    found = [checkpoint for line in lines if (checkpoint := parse(line)) is not None]
    return Reading(found, len(lines) - len(found), torn=bool(data) and not data.endswith(b"\n"))


def parse(line: bytes) -> Checkpoint | None:
    """A checkpoint's line, alone or in a log; None: it is none."""
    text = line.partition(LOGGED.encode())[2] or line
    try:
        told = Checkpoint(**orjson.loads(text))
    except (orjson.JSONDecodeError, TypeError):
        return None
    texts = (told.hash, told.at, told.key_id, told.signature)
    return told if type(told.seq) is int and all(isinstance(text, str) for text in texts) else None


def last() -> Checkpoint | None:
    """The newest genuine one of our file; None: there is none. Raises OSError."""
    with checkpoint_file().open("rb") as file:
        return _last(file)


def check(checkpoints: Iterable[Checkpoint], keys: Keys) -> None:
    """Hold checkpoints against the log; raises Misfit, naming the first that does not fit."""
    ordered = sorted(checkpoints, key=lambda checkpoint: checkpoint.seq)
    for one in ordered:
        if one.key_id not in keys:
            raise Misfit(
                f"The checkpoint of entry {one.seq} ({one.at}) is signed by no trusted key ({one.key_id})."
            )
        if not genuine(one, keys):
            raise Misfit(
                f"The checkpoint of entry {one.seq} ({one.at}) is forged: its signature does not hold."
            )
    fitting = 0
    for first in range(0, len(ordered), _ENTRIES_PER_QUERY):
        some = ordered[first : first + _ENTRIES_PER_QUERY]
        entries = AuditEntry.objects.filter(seq__in={one.seq for one in some})
        hashes = dict(entries.values_list("seq", "hash"))
        for one in some:
            if hashes.get(one.seq) != one.hash:
                raise Misfit(_misfit(one, fitting))
            fitting = one.seq


def _misfit(one: Checkpoint, fitting: int) -> str:
    """``fitting``: the last entry that was as it had been checkpointed."""
    end = AuditEntry.objects.order_by("-seq").values_list("seq", flat=True).first() or 0
    if end < one.seq:
        return f"Entries {end + 1} to {one.seq} were checkpointed at {one.at}, but the log ends at {end}."
    which = f"Entry {one.seq}" if one.seq == fitting + 1 else f"One of the entries {fitting + 1} to {one.seq}"
    return f"{which} was rewritten after {one.at}: entry {one.seq} had another hash when it was checkpointed."


def write(now: datetime) -> Checkpoint | None:
    """Check what was added since the last checkpoint of the file, and sign, log and append a new one; None when
    nothing was added. Raises Misfit (nothing is signed then) and OSError."""
    path, key = checkpoint_file(), private_key(settings.AUDIT_SIGNING_KEY)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        last = _last(file)
        if last is not None:
            check([last], trusted_keys())
        seq, entry_hash = (last.seq, last.hash) if last else (0, audit.GENESIS)
        verdict = audit.verify(seq, entry_hash)
        if verdict.broken_at is not None:
            raise Misfit(f"The chain breaks at entry {verdict.broken_at}: {verdict.why}.")
        if verdict.entries == seq:
            return None
        made = sign(verdict.entries, verdict.last_hash, now, key)
        # Logged first: if the file cannot be written, the log has it.
        log.info("%s%s", LOGGED, made.line())
        _append(file, made.line().encode() + b"\n")
    if is_new:
        _sync_folder(path.parent)
    return made


def _last(file: BinaryIO) -> Checkpoint | None:
    """The newest genuine one near the file's end."""
    keys = trusted_keys()
    file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
    found = _read(file.read(_TAIL_BYTES)).checkpoints
    return next((one for one in reversed(found) if genuine(one, keys)), None)


def _append(file: BinaryIO, line: bytes) -> None:
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":  # a write was cut off, by a crash or a full disk
            line = b"\n" + line
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # an append-only file keeps the half line; it is passed over
            os.ftruncate(descriptor, size)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
