"""What decisions were made from, kept as long as they: policy revisions and snapshots, read back intact.

A bundle's version names both: ``<policy revision>.<snapshot id, or 0>``.
"""

import hashlib
import threading
import zlib
from collections import OrderedDict
from datetime import datetime
from typing import Any

import orjson
from django.db.models import Exists, OuterRef

from routing.engine import Bundle, BundleSnapshot, canonical_json
from routing.models import PolicyRevision, ScoreSnapshot, Selection

#: Bundles that a process keeps rebuilt: a publisher meets the last few versions over and over.
_KEPT = 4


class DamagedArchiveError(Exception):
    """A stored record does not match its checksum; it must not steer."""


class NotArchivedError(Exception):
    """The record that a version names is not there."""


def pack(value: object) -> tuple[str, bytes]:
    """A JSON value's checksum and compressed canonical form."""
    payload = canonical_json(value)
    return hashlib.sha256(payload).hexdigest(), zlib.compress(payload, 1)


def unpack(record: ScoreSnapshot | PolicyRevision) -> Any:
    """The JSON value in a record. Raises DamagedArchiveError when it was altered."""
    what = f"{record._meta.verbose_name} {record.pk}".capitalize()
    try:
        payload = zlib.decompress(bytes(record.payload))
    except zlib.error as error:
        raise DamagedArchiveError(f"{what} cannot be unpacked.") from error
    if hashlib.sha256(payload).hexdigest() != record.checksum:
        raise DamagedArchiveError(f"{what} does not match its checksum.")
    return orjson.loads(payload)


def keep_policy(number: int, policy: dict[str, Any], now: datetime) -> str:
    """Store a policy unless it is there; returns the revision's name."""
    checksum, payload = pack(policy)
    name = f"{number}-{checksum[:12]}"
    if not PolicyRevision.objects.filter(name=name).exists():
        # Several processes find the same policy at the same time: the first one's record stays.
        PolicyRevision.objects.bulk_create(
            [PolicyRevision(name=name, created_at=now, checksum=checksum, payload=payload)],
            ignore_conflicts=True,
        )
    return name


def split_version(version: str) -> tuple[str, int | None]:
    """A bundle version's policy revision and snapshot id."""
    policy, _, snapshot = version.rpartition(".")
    return policy, int(snapshot) or None


def read_snapshot(snapshot: ScoreSnapshot) -> BundleSnapshot:
    """The scores in a stored snapshot. Raises DamagedArchiveError."""
    return BundleSnapshot.from_dict({**unpack(snapshot), "id": str(snapshot.pk)})


def read_bundle(version: str) -> Bundle:
    """The bundle of a version, as it steered. Raises NotArchivedError and DamagedArchiveError."""
    name, snapshot_id = split_version(version)
    policy = PolicyRevision.objects.filter(name=name).first()
    if policy is None:
        raise NotArchivedError(f"Policy revision {name} is not kept.")
    snapshot = None
    if snapshot_id is not None:
        stored = ScoreSnapshot.objects.filter(pk=snapshot_id).first()
        if stored is None:
            raise NotArchivedError(f"Snapshot {snapshot_id} is not kept.")
        snapshot = {**unpack(stored), "id": str(stored.pk)}
    return Bundle.from_dict({**unpack(policy), "version": version, "snapshot": snapshot})


def prune(before: datetime) -> int:
    """Delete policy revisions made before a time that no kept decision was made from, but never the newest;
    returns how many went."""
    newest = PolicyRevision.objects.order_by("-id").values_list("pk", flat=True).first()
    used = Selection.objects.filter(policy=OuterRef("name"))
    old = PolicyRevision.objects.filter(created_at__lt=before).exclude(pk=newest or 0)
    return old.exclude(Exists(used)).delete()[0]


class Archive:
    """The last few bundles asked for, kept rebuilt. Safe between threads."""

    def __init__(self) -> None:
        self._bundles: OrderedDict[str, Bundle] = OrderedDict()
        self._lock = threading.Lock()

    def bundle(self, version: str) -> Bundle:
        """As ``read_bundle``."""
        with self._lock:
            bundle = self._bundles.get(version)
            if bundle is None:
                bundle = self._bundles[version] = read_bundle(version)
            self._bundles.move_to_end(version)
            while len(self._bundles) > _KEPT:
                self._bundles.popitem(last=False)
            return bundle

    def forget(self) -> None:
        with self._lock:
            self._bundles.clear()


archive = Archive()
