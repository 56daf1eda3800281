"""Opens scoring runs, scores and commits their parts. Whoever commits the last part stores the snapshot.

At any moment there is at most one run. Nothing of it steers before its snapshot is there, and a snapshot that
was stored meanwhile is never followed by an older one.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import connection, transaction

from routing.archive import DamagedArchiveError, pack, unpack
from routing.engine import ScopeScores, canonical_json
from routing.models import ScoreSnapshot, ScoringPart, ScoringRun
from routing.scoring_runs.work import Work
from routing.snapshots import (
    Scored,
    active_scopes,
    joined,
    lend,
    newest_id,
    read_catalogue,
    read_own,
    read_pooled,
    score_personas,
    score_scopes,
    store_scores,
)
from telemetry.clickhouse import ClickHouse
from telemetry.partition import Partition

log = logging.getLogger(__name__)

#: Scopes scored between two signs of life.
_SLICE = 200


def begin(
    clickhouse: ClickHouse, now: datetime, partitions: int, deadline: timedelta
) -> tuple[ScoringRun, list[int]]:
    """The run that is under way, or else a new one; with the numbers of its parts that are missing. A run past its
    deadline is superseded. Raises ClickHouseError when there is no new one to be had; then the old one stays."""
    run = current()
    # One that began in the future was begun by a clock that has been set right since.
    if run is not None and run.created_at <= now < run.deadline:
        return run, missing(run)
    work = Work(read_catalogue(), read_pooled(clickhouse, now))
    checksum, payload = pack(work.to_dict())
    with transaction.atomic():
        drop(now)
        run = ScoringRun.objects.create(
            created_at=now,
            checksum=checksum,
            payload=payload,
            partitions=partitions,
            deadline=now + deadline,
            after=newest_id(),
            policy_version=work.catalogue.version,
        )
    return run, missing(run)


def current() -> ScoringRun | None:
    """The run under way, without its payload; one index read."""
    return ScoringRun.objects.defer("payload").order_by("-id").first()


def missing(run: ScoringRun) -> list[int]:
    """Numbers of the parts that nobody has committed yet."""
    done = set(run.parts.values_list("number", flat=True))
    return [number for number in range(run.partitions) if number not in done]


def drop(now: datetime) -> None:
    """Delete the run under way, if there is one, and say so: it came to nothing."""
    for run in ScoringRun.objects.defer("payload"):
        log.warning(
            "%s is dropped unfinished after %.0f s: parts %s of %d are missing",
            run,
            (now - run.created_at).total_seconds(),
            ", ".join(map(str, missing(run))) or "none",
            run.partitions,
        )
        run.delete()


def score_part(
    clickhouse: ClickHouse, run_id: int, number: int, alive: Callable[[], object] = lambda: None
) -> ScoreSnapshot | None:
    """Score one part and commit it; the snapshot, if it was the last one. A part that is there already, and one of a
    run that is no more, cost a query. ``alive`` is called now and then. Raises ClickHouseError, DamagedArchiveError."""
    run = ScoringRun.objects.filter(pk=run_id).first()
    if run is None or number not in missing(run):
        return None
    work = Work.from_dict(unpack(run))
    partition = Partition(number, run.partitions)
    windows = joined(read_own(clickhouse, run.created_at, partition=partition), work.pooled)
    alive()
    lent = lend(work.catalogue, windows)
    scopes: dict[tuple[str, str], ScopeScores] = {}
    for some in _slices([one for one in active_scopes(work.catalogue, windows) if partition.holds(*one)]):
        scopes |= score_scopes(work.catalogue, windows, lent, some)
        alive()
    personas = score_personas(work.catalogue, windows, lent) if number == 0 else {}
    return commit_part(run_id, number, Scored(scopes, personas))


def _slices(scopes: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    for first in range(0, len(scopes), _SLICE):
        yield scopes[first : first + _SLICE]


def commit_part(run_id: int, number: int, scored: Scored) -> ScoreSnapshot | None:
    """All or nothing: the part, and with the last one the snapshot and the end of the run. One of a run that is no
    more is dropped, and so is one that is there already."""
    with transaction.atomic():
        # Locked, so that of two last parts one sees the other.
        run = ScoringRun.objects.select_for_update().defer("payload").filter(pk=run_id).first()
        if run is None:
            log.info("part %d of scoring run %d came too late", number, run_id)
            return None
        checksum, payload = pack(_as_part(scored.to_dict(run.created_at)))
        part = ScoringPart(
            run=run, number=number, created_at=run.created_at, checksum=checksum, payload=payload
        )
        ScoringPart.objects.bulk_create([part], ignore_conflicts=True)
        return None if missing(run) else _assemble(run)


def _assemble(run: ScoringRun) -> ScoreSnapshot | None:
    """The snapshot from all parts, as an undivided run would store it; the run is gone then. None: a newer one was
    stored meanwhile, or a part is damaged."""
    if connection.vendor == "postgresql":
        # Nobody stores another one between the look and the store. Who reads is not kept waiting.
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {ScoreSnapshot._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")
    snapshot = None
    if newest_id() != run.after:
        log.warning("%s is dropped: another snapshot was stored since it began", run)
    else:
        try:
            scores, scopes = _merged([unpack(part) for part in run.parts.order_by("number")])
            snapshot = store_scores(scores, scopes, run.policy_version, run.created_at)
        except DamagedArchiveError as error:
            log.error("%s is dropped: %s", run, error)
    run.delete()
    return snapshot


def _as_part(told: Mapping[str, Any]) -> dict[str, Any]:
    """``Scored.to_dict`` with each scope's scores as text: who puts parts together need not take them apart."""
    scopes = {
        tenant: {persona: canonical_json(scores).decode() for persona, scores in of.items()}
        for tenant, of in told["scopes"].items()
    }
    return {**told, "scopes": scopes}


def _merged(parts: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Parts, the first one's personas included, as one ``Scored.to_dict``; with the number of scopes."""
    scopes: dict[str, dict[str, orjson.Fragment]] = {}
    for part in parts:
        for tenant, of in part["scopes"].items():
            scopes.setdefault(tenant, {}).update(
                {persona: orjson.Fragment(text) for persona, text in of.items()}
            )
    return {**parts[0], "scopes": scopes}, sum(map(len, scopes.values()))
