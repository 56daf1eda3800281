"""What somebody chose in a panel of a rollout: read, checked, as what it would do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from commandcenter.acting import SHORT, key_of, reason_of
from commandcenter.overriding import BROAD_SHARE
from overrides.changes import Change
from routing.guarding import kinds
from routing.guarding.models import Rollout
from routing.guarding.services import Wish, plan_of
from routing.rollout.plan import Plan

START = "start"
#: Of these a preview tells what they change in decisions.
STEERING = (START, "resume", "roll-back")


class NotRead(ValueError):
    """A field that cannot be read; ``args``: its name and what is wanted."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The panel's fields as they came. ``step`` counts from 1, as people do; empty: go on as it stands. ``seen``: the
    version that the panel was shown for."""

    act: str
    pk: int | None = None
    tenant: str = ""
    persona: str = ""
    steps: str = ""
    minutes: str = ""
    conversations: str = ""
    step: str = ""
    reason: str = ""
    confirm: str = ""
    seen: str = ""
    key: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What is typed to confirm it."""
        return f"{self.tenant}/{self.persona}" if self.persona else self.tenant

    @property
    def version(self) -> int:
        return int(self.seen) if self.seen.isdecimal() and len(self.seen) < 10 else 0

    def wish(self) -> Wish:
        """Raises NotRead."""
        plan = {
            "steps": percentages(self.steps),
            "min_minutes": whole("minutes", self.minutes),
            "min_conversations": whole("conversations", self.conversations),
        }
        return Wish(self.tenant, self.persona or None, self.reason, plan, self.index() or 0)

    def index(self) -> int | None:
        """The step from 0; None: none is named. Raises NotRead."""
        return whole("step", self.step) - 1 if self.step else None

    def change(self) -> Change:
        """Of starting and resuming. Raises NotRead."""
        if self.act == START:
            return kinds.to_start(self.wish())
        assert self.pk is not None  # noqa: S101  # only a new one has none
        return kinds.to_resume(self.pk, self.version, self.index(), self.reason)


def read(fields: Any, act: str, row: Rollout | None) -> Asked:
    """The fields of a form or query string; what is left out has its default."""
    plan = plan_of(row) if row else Plan()
    return Asked(
        act=act,
        pk=row.pk if row else None,
        tenant=row.tenant.slug if row else fields.get("tenant", "").strip()[:63],
        persona=(row.persona.slug if row.persona else "") if row else fields.get("persona", "").strip()[:63],
        steps=fields.get("steps", ", ".join(f"{step:g}" for step in plan.steps)).strip()[:200],
        minutes=fields.get("minutes", str(plan.min_minutes)).strip()[:10],
        conversations=fields.get("conversations", str(plan.min_conversations)).strip()[:10],
        step=fields.get("step", "1" if row is None or row.state == Rollout.State.ROLLED_BACK else "").strip()[
            :3
        ],
        reason=reason_of(fields),
        confirm=fields.get("confirm", "").strip()[:200],
        seen=fields.get("seen", str(row.version) if row else "")[:12],
        key=key_of(fields),
    )


def percentages(text: str) -> list[float]:
    """Raises NotRead."""
    found = [part.strip().removesuffix("%").strip() for part in text.split(",") if part.strip()]
    try:
        return [float(part) for part in found]
    except ValueError:
        raise NotRead("steps", "Percentages with commas between them, such as 1, 5, 25.") from None


def whole(name: str, text: str) -> int:
    """Raises NotRead."""
    if not text.isdecimal() or len(text) > 9:
        raise NotRead(name, "A whole number.")
    return int(text)


def is_broad(told: Mapping[str, Any], percent: float) -> bool:
    """Whether it wants its name typed: it touches more than a fifth of the traffic. ``percent``: of the conversations
    that the preview counts, those whose side changes."""
    share = told.get("share_of_traffic")
    return share is not None and share * percent / 100 > BROAD_SHARE


def complaints(asked: Asked, told: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with it, by field; empty: nothing."""
    found = {}
    if "problem" in told:
        found["fields"] = str(told["problem"])
    if len(asked.reason) < 10:
        found["reason"] = SHORT
    if told.get("broad") and asked.confirm != asked.name:
        found["confirm"] = f"This touches much traffic: type {asked.name} to confirm it."
    return found
