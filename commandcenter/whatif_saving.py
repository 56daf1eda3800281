"""What of a what-if is saved, each part as a change of its own: the persona, and each profile that was touched."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog.access import Caller
from catalog.models import ModelProfile, Persona
from catalog.prices import Price, PriceBook
from commandcenter.rights import missing
from commandcenter.whatif import PRICES, Asked, Row, plain
from overrides import idempotency
from overrides.changes import Change
from overrides.states import State, describe, tag_of


class Meanwhile(Exception):
    """It is not what the page was shown for; ``current`` is what it is now."""

    def __init__(self, current: State) -> None:
        super().__init__("It was changed since you saw it.")
        self.current = current


@dataclass(frozen=True, slots=True)
class Part:
    """One change. ``what``: "persona" or "profile:<slug>"; ``seen``: the tag of what the page was shown for;
    ``lacking``: the right that one lacks; None: one may."""

    what: str
    title: str
    lines: tuple[tuple[str, str, str], ...]
    seen: str
    lacking: str | None

    @property
    def field(self) -> str:
        """The form's field that carries ``seen``."""
        return f"seen:{self.what}"


def parts_of(asked: Asked, persona: Persona, book: PriceBook, who: Caller, now: datetime) -> list[Part]:
    """What could be saved, the persona first."""
    found = []
    if asked.changed:
        lines = tuple(
            (one.kind.label, one.now or one.kind.empty, one.value or one.kind.empty) for one in asked.changed
        )
        seen = tag_of(describe(persona))
        found.append(Part("persona", f"Persona {persona.slug}", lines, seen, missing(who, "persona", None)))
    lacking = missing(who, "modelprofile", None)
    found += [
        Part(
            f"profile:{row.slug}",
            f"Profile {row.slug}",
            tuple(_lines(row)),
            seen_of(row.enabled, book.in_force(row.slug, now)),
            lacking,
        )
        for row in asked.rows
        if row.is_changed
    ]
    return found


def _lines(row: Row) -> list[tuple[str, str, str]]:
    lines = [
        (f"{one.part} $ per 1,000", one.now or "unknown", one.value or "as prompt")
        for one in row.prices
        if one.is_changed
    ]
    if row.used != row.enabled:
        words = {True: "enabled", False: "disabled"}
        lines.insert(0, ("state", words[row.enabled], words[row.used]))
    return lines


def seen_of(enabled: bool, price: Price | None) -> str:
    """A tag of what the page shows of a profile."""
    told = None if price is None else [plain(getattr(price, f"{part}_per_1k")) for part in PRICES]
    return idempotency.fingerprint(enabled, told)[:16]


def change_of(asked: Asked, part: Part, persona: Persona, seen: str, reason: str, now: datetime) -> Change:
    """The part as a change, bound to what was seen. In the transaction that makes it. Raises Meanwhile."""
    if part.what == "persona":
        return Change("persona", str(persona.pk), {"set": asked.values, "seen": seen}, reason)
    row = next(row for row in asked.rows if f"profile:{row.slug}" == part.what)
    profile = ModelProfile.objects.select_for_update(of=("self",)).get(slug=row.slug)
    before = describe(profile)
    standing = _standing(before, now)
    if seen != seen_of(profile.enabled, standing):
        raise Meanwhile(before)
    wanted: dict[str, Any] = {}
    if row.used != row.enabled:
        wanted["enabled"] = row.used
    if row.is_priced_anew:
        wanted["prices"] = [*before["prices"], _revision(row, now)]
    return Change("modelprofile", str(profile.pk), {"set": wanted, "seen": tag_of(before)}, reason)


def _standing(state: Mapping[str, Any], now: datetime) -> Price | None:
    """The price in force, of a profile's state: its revisions are in order of time."""
    past = [one for one in state["prices"] if datetime.fromisoformat(one["valid_from"]) <= now]
    if not past:
        return None
    last = past[-1]
    cached = last["cached_per_1k"]
    return Price(
        prompt_per_1k=Decimal(last["prompt_per_1k"]),
        completion_per_1k=Decimal(last["completion_per_1k"]),
        cached_per_1k=None if cached is None else Decimal(cached),
    )


def _revision(row: Row, now: datetime) -> dict[str, Any]:
    """A price from now on; past completions keep theirs."""
    told = {f"{one.part}_per_1k": one.value or None for one in row.prices}
    return {"profile": row.slug, "valid_from": now.isoformat(), **told}
