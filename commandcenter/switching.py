"""What somebody chose in a panel of the flag, of a tenant's share or of a kill switch: read, checked, as a change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from catalog.access import Caller
from commandcenter.acting import SHORT, key_of, reason_of
from commandcenter.overriding import BROAD_SHARE
from commandcenter.rights import missing
from overrides import idempotency
from overrides.changes import Change
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag, KillSwitch
from overrides.states import State, describe, tag_of

WHATS = ("flag", "share", "kill")
MODES = ("on", "off", "percent")
#: Typed to stop everybody, or to let everybody go on.
EVERYBODY = "everybody"


@dataclass(frozen=True, slots=True)
class Asked:
    """The panel's fields as they came. ``mode`` and ``percent`` of the flag; ``percent`` of a share (empty: none of its
    own); ``on`` of a kill switch. ``seen``: the tag of the state that the panel was shown for."""

    what: str
    tenant: str | None = None
    mode: str = "percent"
    percent: str = ""
    on: bool = True
    reason: str = ""
    confirm: str = ""
    seen: str = ""
    key: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What is typed to confirm it."""
        return AUTO_MODEL_SELECTION if self.what == "flag" else self.tenant or EVERYBODY

    @property
    def kind(self) -> str:
        return "kill_switch" if self.what == "kill" else "flag"

    @property
    def slot(self) -> str:
        """Where on the page its panel stands."""
        return f"slot-{self.what}" if self.tenant is None else "slot-tenants"

    def is_broad(self, preview: Mapping[str, Any]) -> bool:
        """Whether it wants its name typed: all tenants, or more than a fifth of the traffic."""
        share = preview.get("share_of_traffic")
        return self.tenant is None or (share is not None and share > BROAD_SHARE)


def read(query: Any, state: "Standing") -> Asked:
    """The fields of a form or query string; what is left out is as it stands, or the other of two."""
    what, tenant = state.what, state.tenant
    asked = query.get("mode", "") or query.get("on", "") or query.get("percent")
    mode, percent, on = query.get("mode", ""), query.get("percent", ""), query.get("on", "") == "1"
    if asked is None:
        mode, percent, on = state.mode, state.percent, not state.on
    return Asked(
        what=what,
        tenant=tenant,
        mode=mode if mode in MODES else "percent",
        percent=percent.strip().removesuffix("%").strip()[:20],
        on=on,
        reason=reason_of(query),
        confirm=query.get("confirm", "").strip()[:200],
        seen=query.get("seen", "")[:64],
        key=key_of(query),
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands now of what a panel is about. ``tag`` changes whenever that does; ``state`` is told to people.
    ``flag_tag``: of the whole flag, whose shares of other tenants may change meanwhile."""

    what: str
    tenant: str | None
    tag: str
    state: State
    target: str
    flag_tag: str = ""
    shares: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mode(self) -> str:
        everyone = self.state.get("everyone")
        return "percent" if everyone is None else "on" if everyone else "off"

    @property
    def percent(self) -> str:
        if self.what == "share":
            return str(self.shares.get(self.tenant or "", ""))
        return str(self.state.get("rollout_percent", ""))

    @property
    def on(self) -> bool:
        return bool(self.state.get("on"))


def standing(what: str, tenant: str | None, lock: bool = False) -> Standing:
    """Read it; ``lock``: until the transaction ends, so that nobody is overwritten."""
    if what == "kill":
        rows = KillSwitch.objects.select_for_update(of=("self",)) if lock else KillSwitch.objects.all()
        row = (rows.filter(tenant__slug=tenant) if tenant else rows.filter(tenant=None)).first()
        told: State = {"on": row.on, "by": row.changed_by, "reason": row.reason} if row else {"on": False}
        tag = idempotency.fingerprint(told, row.changed_at.isoformat() if row else "")[:16]
        return Standing(what, tenant, tag, told, tenant or "*")
    flags: Any = Flag.objects.select_for_update(of=("self",)) if lock else Flag.objects.all()
    flag = flags.get(name=AUTO_MODEL_SELECTION)
    state = describe(flag)
    shown = {name: state[name] for name in ("everyone", "rollout_percent")}
    if what == "share":
        shown = {"share": state["tenants"].get(tenant)}
    return Standing(what, tenant, tag_of(shown), shown, str(flag.pk), tag_of(state), state["tenants"])


def change_of(asked: Asked, now: Standing) -> Change:
    """The change that is asked for, bound to what stands. ValueError when the percentage is none."""
    if asked.what == "kill":
        wanted: dict[str, Any] = {"tenant": asked.tenant, "on": asked.on}
    else:
        wanted = {"set": _wanted(asked, now), "seen": now.flag_tag}
    return Change(asked.kind, now.target, wanted, asked.reason)


def _wanted(asked: Asked, now: Standing) -> dict[str, Any]:
    if asked.what == "flag":
        if asked.mode != "percent":
            return {"everyone": asked.mode == "on"}
        return {"everyone": None, "rollout_percent": percentage(asked.percent)}
    shares = {slug: share for slug, share in now.shares.items() if slug != asked.tenant}
    if asked.percent:
        shares[str(asked.tenant)] = percentage(asked.percent)
    return {"tenants": shares}


def percentage(text: str) -> str:
    """A percentage as a JSON value. Raises ValueError with what is wrong."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value <= 100 or value != round(value, 2):
        raise ValueError("A percentage: 0 to 100, with at most two decimals.")
    return format(value, "f")


def may_not(who: Caller, what: str, tenant: str | None) -> str | None:
    """What somebody lacks to change it; None: nothing."""
    return missing(who, "kill_switch" if what == "kill" else "flag", tenant)


def complaints(asked: Asked, preview: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with it, by field; empty: nothing."""
    found = {}
    if "problem" in preview:
        found["percent"] = preview["problem"]
    if len(asked.reason) < 10:
        found["reason"] = SHORT
    if asked.is_broad(preview) and asked.confirm != asked.name:
        found["confirm"] = f"This touches much traffic: type {asked.name} to confirm it."
    return found


def words(asked: Asked) -> str:
    """What was done, for the toast."""
    whose = asked.tenant or EVERYBODY
    if asked.what == "kill":
        return f"Kill switch {'on: automatic selection is stopped' if asked.on else 'off'} for {whose}."
    if asked.what == "share":
        return (
            f"{whose}: {asked.percent}% of conversations."
            if asked.percent
            else f"{whose}: no share of its own."
        )
    modes = {"on": "on for everybody", "off": "off", "percent": f"on for {asked.percent}% of conversations"}
    return f"{AUTO_MODEL_SELECTION} is {modes[asked.mode]}."
