"""What a backup holds, in ``manifest.json``: written last, so that a folder without one is no backup.

``manifest.sig`` signs it with AUDIT_SIGNING_KEY, and it has every file's SHA-256: nobody alters a backup unseen.
"""

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import orjson
from cryptography.exceptions import InvalidSignature
from django.conf import settings
from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, ValidationError

from ops.backup import BackupError
from overrides.checkpoints import Keys, key_id, private_key

FILE = "manifest.json"
SIGNATURE = "manifest.sig"
#: Signed along, so that a signature made for something else is none of a manifest.
_PURPOSE = b"backup manifest v1\n"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Part(_Strict):
    """One file. ``rows``: of a ClickHouse partition; None for others."""

    path: str
    bytes: NonNegativeInt
    sha256: str
    rows: NonNegativeInt | None = None


class Database(_Strict):
    """The Django database: rows by table, and the migrations it has (``app.name``)."""

    vendor: Literal["sqlite", "postgresql"]
    server: str
    migrations: tuple[str, ...]
    tables: dict[str, NonNegativeInt]
    file: str


class Table(_Strict):
    """A ClickHouse table: its columns in the order of the rows, and its files, one a partition."""

    columns: tuple[str, ...]
    rows: NonNegativeInt
    files: tuple[str, ...]


class Rows(_Strict):
    """What ClickHouse had, by table."""

    server: str
    migrations: tuple[str, ...]
    tables: dict[str, Table]


class Audit(_Strict):
    """The audit log when the backup began. ``problem``: how its chain was broken then; None: it was whole."""

    entries: NonNegativeInt
    checkpoint: str | None
    problem: str | None


class Manifest(_Strict):
    """``began_at``: what was accepted before this time is in the backup."""

    format: Literal[1]
    began_at: AwareDatetime
    ended_at: AwareDatetime
    database: Database
    clickhouse: Rows | None
    audit: Audit
    parts: tuple[Part, ...]


def part_of(folder: Path, path: Path, rows: int | None = None) -> Part:
    """A file as it stands, read back from disk."""
    return Part(
        path=str(path.relative_to(folder)), bytes=path.stat().st_size, sha256=_digest(path), rows=rows
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and its signature; both are on disk when this returns."""
    data = manifest.model_dump_json(indent=1).encode()
    key = private_key(settings.AUDIT_SIGNING_KEY)
    signature = {
        "key_id": key_id(key.public_key()),
        "signature": base64.b64encode(key.sign(_PURPOSE + data)).decode(),
    }
    write_synced(folder / SIGNATURE, orjson.dumps(signature))
    write_synced(folder / FILE, data)


def write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path, keys: Keys | None) -> Manifest:
    """The manifest of a backup, its signature checked against trusted keys (None: not checked)."""
    try:
        data = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BackupError(f"{folder} is no backup: there is no {FILE} in it.{_instead(folder)}") from None
    if keys is not None:
        _check_signature(folder, data, keys)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise BackupError(
            f"{folder / FILE} is damaged or of a version that this code does not know: {where}: {first['msg']}"
        ) from None


def _instead(folder: Path) -> str:
    inside = sorted(path.parent.name for path in folder.glob(f"*/{FILE}")) if folder.is_dir() else []
    return f" Name one of those below it: {', '.join(inside[-5:])}." if inside else ""


def _check_signature(folder: Path, data: bytes, keys: Keys) -> None:
    try:
        told = orjson.loads((folder / SIGNATURE).read_bytes())
        named, signature = told["key_id"], base64.b64decode(told["signature"], validate=True)
    except (OSError, ValueError, KeyError, TypeError):
        raise BackupError(
            f"{folder / SIGNATURE} is missing or damaged; --unsigned does without it."
        ) from None
    if named not in keys:
        raise BackupError(
            f"{folder / FILE} is signed by a key that is not trusted here ({named}): set AUDIT_SIGNING_KEY, or name "
            "its public key in AUDIT_PUBLIC_KEYS; --unsigned does without."
        )
    try:
        keys[named].verify(signature, _PURPOSE + data)
    except InvalidSignature:
        raise BackupError(f"{folder / FILE} was altered: its signature does not hold.") from None


def check_parts(folder: Path, manifest: Manifest, told: Callable[[int], None]) -> None:
    """Hold every file against the manifest; BackupError names the first that differs. ``told``: bytes read."""
    for part in manifest.parts:
        path = folder / part.path
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BackupError(f"{part.path} lies outside of the backup.")
        if not path.is_file():
            raise BackupError(f"{part.path} is missing from the backup.")
        if path.stat().st_size != part.bytes or _digest(path) != part.sha256:
            raise BackupError(
                f"{part.path} is damaged: it is not what was backed up (size or SHA-256 differs)."
            )
        told(part.bytes)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
