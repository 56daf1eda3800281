"""What a rollout's steps came to: the running one from ClickHouse, those before it as they were kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from catalog.models import Persona
from routing import savings
from routing.decision import Reason
from routing.guarding.models import Rollout
from routing.rollout.evidence import ArmSums, Measure, StepEvidence
from telemetry.clickhouse import ClickHouse
from telemetry.step_sums import ConversationSums, Reasons, StepSums, read_step

#: Conversations of a step's first minute do not count: not every process decides by the new share yet.
SPREAD = timedelta(minutes=1)
#: Seconds that reading one step may take; less than another runner waits before it takes over.
TIMEOUT = 15.0

#: By what was drawn, whatever came of it: what rules before the flag decide, both arms are given alike.
REASONS = Reasons(
    control=frozenset({Reason.FLAG_OFF}) | savings.CONTROL,
    treated=savings.TREATED,
    blind=frozenset({Reason.TELEMETRY_STALE}),
)


@dataclass(frozen=True, slots=True)
class Found:
    """``steps``: of the running attempt, the last of which is the running one. ``newest``: when the last completion
    that counts came (UTC); None: none did."""

    steps: tuple[StepEvidence, ...]
    newest: datetime | None

    @property
    def running(self) -> StepEvidence:
        return self.steps[-1]


def read(clickhouse: ClickHouse, rollout: Rollout, personas: list[Persona], now: datetime) -> Found:
    """Raises ClickHouseError."""
    limits = {persona.slug: persona.max_latency_p95_ms for persona in personas}
    since = rollout.step_began_at + SPREAD
    sums = read_step(clickhouse, rollout.tenant.slug, limits, since, now, REASONS, TIMEOUT)
    return Found((*_kept(rollout), _running(rollout, sums)), sums.newest)


def _running(rollout: Rollout, sums: StepSums) -> StepEvidence:
    return StepEvidence(
        rollout.step, float(rollout.share), rollout.step_began_at, _arm(sums.treated), _arm(sums.control)
    )


def _arm(sums: ConversationSums) -> ArmSums:
    return ArmSums(
        sums.conversations,
        {measure: sums.sums[measure.value] for measure in Measure},
        {measure: sums.squares[measure.value] for measure in Measure},
    )


def _kept(rollout: Rollout) -> list[StepEvidence]:
    rows = rollout.steps.filter(
        attempt=rollout.attempt, index__lt=rollout.step, evidence__isnull=False
    ).order_by("index")
    found = []
    for index, percent, began_at, kept in rows.values_list("index", "percent", "began_at", "evidence"):
        told: Any = kept
        arms = (arm_of(told[name]) for name in ("treated", "control"))
        found.append(StepEvidence(index, float(percent), began_at, *arms))
    return found


def stored(step: StepEvidence) -> dict[str, Any]:
    """JSON values; ``arm_of`` reads each arm again."""
    return {name: _stored(arm) for name, arm in (("treated", step.treated), ("control", step.control))}


def _stored(arm: ArmSums) -> dict[str, Any]:
    return {
        "conversations": arm.conversations,
        "sums": {measure.value: arm.sums[measure] for measure in Measure},
        "squares": {measure.value: arm.squares[measure] for measure in Measure},
    }


def arm_of(told: Mapping[str, Any]) -> ArmSums:
    return ArmSums(
        told["conversations"],
        {measure: told["sums"][measure.value] for measure in Measure},
        {measure: told["squares"][measure.value] for measure in Measure},
    )
