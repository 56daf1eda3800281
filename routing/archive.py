"""What decisions were made from, kept as long as they: policy revisions and snapshots, read back intact.

A bundle's version names both: ``<policy revision>.<snapshot id, or 0>``. Many overrides are kept in parts, each a
record of its own name that revisions share (routing.parts).
"""

import hashlib
import logging
import threading
import zlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from django.db import transaction
from django.db.models import Exists, OuterRef

from routing.engine import Bundle, BundleSnapshot, StandingOverride, canonical_json
from routing.models import Archived, PolicyRevision, ScoreSnapshot, Selection
from routing.parts import Part

log = logging.getLogger(__name__)

#: Bundles that a process keeps rebuilt: a publisher meets the last few versions over and over.
_KEPT = 4
#: Up to so many overrides stand in the policy revision itself.
_INLINE = 1_000
#: What the names of parts begin with.
_PART = "part-"
#: Parts that one run of pruning deletes at most.
_PRUNED = 5_000


class DamagedArchiveError(Exception):
    """A stored record does not match its checksum; it must not steer."""


class NotArchivedError(Exception):
    """The record that a version names is not there."""


def pack(value: object) -> tuple[str, bytes]:
    """A JSON value's checksum and compressed canonical form."""
    payload = canonical_json(value)
    return hashlib.sha256(payload).hexdigest(), zlib.compress(payload, 1)


def unpack(record: Archived) -> Any:
    """The JSON value in a record. Raises DamagedArchiveError when it was altered."""
    return orjson.loads(_intact(record))


def _intact(record: Archived) -> bytes:
    what = f"{record._meta.verbose_name} {record.pk}".capitalize()
    try:
        payload = zlib.decompress(bytes(record.payload))
    except zlib.error as error:
        raise DamagedArchiveError(f"{what} cannot be unpacked.") from error
    if hashlib.sha256(payload).hexdigest() != record.checksum:
        raise DamagedArchiveError(f"{what} does not match its checksum.")
    return payload


def keep_policy(number: int, policy: Bundle, now: datetime, parts: Sequence[Part]) -> str:
    """Store a policy unless it is there; returns the revision's name. ``parts``: its overrides (``divide``). A few
    stand in the revision itself, many in records of their own, which revisions share."""
    shared = parts if len(policy.standing.overrides) > _INLINE else ()
    checksum, payload = pack(_told(policy, shared))
    name = f"{number}-{checksum[:12]}"
    if not PolicyRevision.objects.filter(name=name).exists():
        with transaction.atomic():
            _keep_parts(shared, now)
            # Several processes find the same policy at the same time: the first one's record stays.
            PolicyRevision.objects.bulk_create(
                [PolicyRevision(name=name, created_at=now, checksum=checksum, payload=payload)],
                ignore_conflicts=True,
            )
    return name


def _told(policy: Bundle, shared: Sequence[Part]) -> dict[str, Any]:
    standing = replace(policy.standing, overrides=()) if shared else policy.standing
    told = replace(policy, standing=standing, snapshot=None).to_dict()
    del told["snapshot"], told["version"]
    if shared:
        # Not an empty list: who cannot read parts shall fail, and not replay without overrides.
        del told["standing"]["overrides"]
        told["standing"]["parts"] = [part.checksum for part in shared]
    return told


def _keep_parts(parts: Sequence[Part], now: datetime) -> None:
    wanted = {part_name(part.checksum): part for part in parts}
    # Locked until the revision is there too, so that pruning cannot take one away in between.
    there = PolicyRevision.objects.select_for_update().filter(name__in=wanted).order_by("name")
    missing = wanted.keys() - set(there.values_list("name", flat=True))
    PolicyRevision.objects.bulk_create(
        [
            PolicyRevision(
                name=name,
                created_at=now,
                checksum=wanted[name].checksum,
                payload=zlib.compress(wanted[name].json(), 1),
            )
            for name in sorted(missing)
        ],
        ignore_conflicts=True,
    )


def part_name(checksum: str) -> str:
    """The name of the record that holds a part."""
    return f"{_PART}{checksum[:32]}"


@lru_cache(maxsize=8)  # each decision asks, and there are one or two at a time
def split_version(version: str) -> tuple[str, int | None]:
    """A bundle version's policy revision and snapshot id."""
    policy, _, snapshot = version.rpartition(".")
    return policy, int(snapshot) or None


def read_snapshot(snapshot: ScoreSnapshot) -> BundleSnapshot:
    """The scores in a stored snapshot. Raises DamagedArchiveError."""
    return BundleSnapshot.from_json(str(snapshot.pk), _intact(snapshot))


@dataclass(frozen=True, slots=True)
class _Rebuilt:
    """A bundle, with what versions near it have in common: overrides by the checksums of their parts."""

    bundle: Bundle
    parts: Mapping[str, tuple[StandingOverride, ...]]


def read_bundle(version: str) -> Bundle:
    """The bundle of a version, as it steered. Raises NotArchivedError and DamagedArchiveError."""
    return _rebuild(version, ()).bundle


def _rebuild(version: str, near: Collection[_Rebuilt]) -> _Rebuilt:
    """What is in ``near`` already is not read again."""
    name, snapshot_id = split_version(version)
    policy = PolicyRevision.objects.filter(name=name).first()
    if policy is None:
        raise NotArchivedError(f"Policy revision {name} is not kept.")
    snapshots = {one.bundle.snapshot.id: one.bundle.snapshot for one in near if one.bundle.snapshot}
    snapshot = None
    if snapshot_id is not None:
        snapshot = snapshots.get(str(snapshot_id)) or _stored_snapshot(snapshot_id)
    told = {**unpack(policy), "version": version, "snapshot": None}
    parts = _read_parts(told["standing"].pop("parts", ()), near)
    if parts:
        told["standing"]["overrides"] = ()
    bundle = Bundle.from_dict(told)
    if parts:
        overrides = tuple(override for of in parts.values() for override in of)
        bundle = replace(bundle, standing=replace(bundle.standing, overrides=overrides))
    return _Rebuilt(replace(bundle, snapshot=snapshot), parts)


def _stored_snapshot(pk: int) -> BundleSnapshot:
    stored = ScoreSnapshot.objects.filter(pk=pk).first()
    if stored is None:
        raise NotArchivedError(f"Snapshot {pk} is not kept.")
    return read_snapshot(stored)


def _read_parts(
    checksums: Sequence[str], near: Collection[_Rebuilt]
) -> Mapping[str, tuple[StandingOverride, ...]]:
    known = {checksum: of for one in near for checksum, of in one.parts.items()}
    names = [part_name(checksum) for checksum in checksums if checksum not in known]
    rows = {row.checksum: row for row in PolicyRevision.objects.filter(name__in=names)} if names else {}
    for checksum, row in rows.items():
        known[checksum] = tuple(map(StandingOverride.from_dict, unpack(row)))
    for checksum in checksums:
        if checksum not in known:
            raise NotArchivedError(f"{part_name(checksum)}, a part of the policy, is not kept.")
    return {checksum: known[checksum] for checksum in checksums}


def prune(before: datetime) -> int:
    """Delete policy revisions made before a time that no kept decision was made from, but never the newest, and then
    the parts that none of those left is made of; returns how many records went."""
    whole = PolicyRevision.objects.exclude(name__startswith=_PART)
    newest = whole.order_by("-id").values_list("pk", flat=True).first()
    used = Selection.objects.filter(policy=OuterRef("name"))
    old = whole.filter(created_at__lt=before).exclude(pk=newest or 0)
    return old.exclude(Exists(used)).delete()[0] + _prune_parts(before)


def _prune_parts(before: datetime) -> int:
    parts = PolicyRevision.objects.filter(name__startswith=_PART, created_at__lt=before)
    names = set(parts.values_list("name", flat=True))
    if not names:
        return 0
    seen: set[int] = set()
    needed = _needed(seen)
    with transaction.atomic():
        loose = parts.filter(name__in=sorted(names - needed)[:_PRUNED])
        locked = set(loose.select_for_update().order_by("name").values_list("name", flat=True))
        # A revision that came meanwhile may be made of parts that were loose a moment ago.
        return parts.filter(name__in=sorted(locked - _needed(seen))).delete()[0]


def _needed(seen: set[int]) -> set[str]:
    """The parts that revisions are made of, but for those ``seen``, which are added to it."""
    needed: set[str] = set()
    whole = PolicyRevision.objects.exclude(name__startswith=_PART)
    for pk in sorted(set(whole.values_list("pk", flat=True)) - seen):
        seen.add(pk)
        row = whole.filter(pk=pk).first()
        try:
            needed.update(map(part_name, unpack(row)["standing"].get("parts", ())) if row else ())
        except DamagedArchiveError as error:
            log.error("%s Its parts are not known.", error)  # it cannot be replayed with them either
    return needed


class Archive:
    """The last few bundles asked for, kept rebuilt. Safe between threads."""

    def __init__(self) -> None:
        self._bundles: OrderedDict[str, _Rebuilt] = OrderedDict()
        self._lock = threading.Lock()

    def bundle(self, version: str) -> Bundle:
        """As ``read_bundle``."""
        with self._lock:
            found = self._bundles.get(version)
            if found is None:
                found = self._bundles[version] = _rebuild(version, self._bundles.values())
            self._bundles.move_to_end(version)
            while len(self._bundles) > _KEPT:
                self._bundles.popitem(last=False)
            return found.bundle

    def forget(self) -> None:
        with self._lock:
            self._bundles.clear()


archive = Archive()
