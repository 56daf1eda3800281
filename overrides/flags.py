"""The flag that turns automatic selection on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from overrides.models import Flag

AUTO_MODEL_SELECTION = "AUTO_MODEL_SELECTION_ENABLED"


@dataclass(frozen=True, slots=True)
class FlagRow:
    """The flag as stored. Percentages are 0 to 100; ``everyone`` None means: look at the percentages."""

    everyone: bool | None = False
    percent: float = 0.0
    tenants: Mapping[str, float] = field(default_factory=dict)
    salt: str = ""


def read_flag(name: str = AUTO_MODEL_SELECTION) -> FlagRow:
    """Read the flag in two queries; a flag that does not exist is off."""
    flag = Flag.objects.filter(name=name).first()
    if flag is None:
        return FlagRow()
    tenants = flag.tenant_rollouts.values_list("tenant__slug", "rollout_percent")
    return FlagRow(
        everyone=flag.everyone,
        percent=float(flag.rollout_percent),
        tenants={slug: float(percent) for slug, percent in tenants},
        salt=flag.salt,
    )
