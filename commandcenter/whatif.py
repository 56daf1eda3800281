"""What somebody asks on the what-if page: read from the address or the form, as the API's body, and as an address."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode

from catalog.models import Persona
from catalog.prices import Price, PriceBook
from catalog.problems import Problem
from routing.engine import Bundle
from routing.whatif import Hypothesis
from routing.whatif_api import WhatIfSerializer, hypothesis_of

WEIGHTS = ("weight_cost", "weight_success", "weight_latency")
PRICES = ("prompt", "completion", "cached")


@dataclass(frozen=True, slots=True)
class Kind:
    """A value of a persona that the page moves. ``empty``: what leaving it empty means; "": it may not be empty."""

    name: str
    label: str
    step: str
    most: str
    empty: str = ""


KINDS = (
    Kind("weight_cost", "Cost", "0.01", "1"),
    Kind("weight_success", "Success", "0.01", "1"),
    Kind("weight_latency", "Latency", "0.01", "1"),
    Kind("min_success_rate", "Success rate at least (0 to 1)", "0.01", "1"),
    Kind("max_latency_p95_ms", "p95 at most (ms)", "100", "3600000"),
    Kind("max_safety_violation_rate", "Safety violations at most (0 to 1)", "0.001", "1"),
    Kind("min_accuracy", "Accuracy at least (0 to 1)", "0.01", "1", "no clause"),
    Kind(
        "max_cost_per_completion", "Cost per completion at most ($)", "0.0001", "", "the default's own cost"
    ),
    Kind("confidence", "Confidence of the bounds (0.5 to 0.9999)", "0.01", "0.9999"),
    Kind("min_samples", "Completions needed to prove anything", "1", ""),
    Kind("exploration_share", "Share that tries unproven profiles (0 to 1)", "0.01", "1"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One input. ``now``: the standing value; ``value``: as asked. Both as text."""

    kind: Kind
    now: str
    value: str

    @property
    def is_changed(self) -> bool:
        return not _same(self.value, self.now)


@dataclass(frozen=True, slots=True)
class PriceField:
    """A price in US dollars per 1,000 tokens. ``now``: in force, empty: unknown (of cached tokens: as the prompt's)."""

    part: str
    name: str
    now: str
    value: str

    @property
    def is_changed(self) -> bool:
        return not _same(self.value, self.now)


@dataclass(frozen=True, slots=True)
class Row:
    """A profile of the catalogue. ``why_not``: what keeps it from being added here, whatever one ticks; None: nothing.
    ``used``: as asked."""

    slug: str
    enabled: bool
    used: bool
    why_not: str | None
    prices: tuple[PriceField, ...]

    @property
    def is_priced_anew(self) -> bool:
        return any(price.is_changed for price in self.prices)

    @property
    def is_changed(self) -> bool:
        return self.is_priced_anew or self.used != self.enabled


@dataclass(frozen=True, slots=True)
class Asked:
    """The page's fields. ``tenant``: only its scopes (empty: all that one may see)."""

    persona: str
    tenant: str
    fields: tuple[Field, ...]
    rows: tuple[Row, ...]
    problems: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> tuple[Field, ...]:
        return tuple(one for one in self.fields if one.is_changed)

    @property
    def values(self) -> dict[str, str | None]:
        """The persona's changed values as the settings service takes them."""
        return {one.kind.name: one.value or None for one in self.changed}

    @property
    def body(self) -> dict[str, Any]:
        """As ``POST /api/v1/whatif`` takes it."""
        return {
            "personas": {self.persona: self.values} if self.changed else {},
            "prices": {row.slug: _prices(row) for row in self.rows if row.is_priced_anew},
            "add": [row.slug for row in self.rows if row.used and not row.enabled],
            "remove": [row.slug for row in self.rows if row.enabled and not row.used],
        }

    @property
    def is_changed(self) -> bool:
        return any(self.body.values())

    @property
    def query(self) -> str:
        """The address that says the same: nothing but what is changed."""
        return urlencode(self.pairs)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """What is chosen and changed, by name."""
        return list(self._pairs())

    def _pairs(self) -> Iterator[tuple[str, str]]:
        yield "persona", self.persona
        if self.tenant:
            yield "tenant", self.tenant
        for one in self.changed:
            yield one.kind.name, one.value
        for row in self.rows:
            for price in row.prices:
                if price.is_changed:
                    yield price.name, price.value
        yield from (("out", slug) for slug in self.body["remove"])
        yield from (("in", slug) for slug in self.body["add"])

    @property
    def rebalanced(self) -> str | None:
        """Where the weights do not sum to 1: the address by which they do, in the same proportions."""
        weights = [one for one in self.fields if one.kind.name in WEIGHTS]
        try:
            found = [Decimal(one.value) for one in weights]
        except InvalidOperation:
            return None
        total = sum(found)
        if total == 1 or total <= 0 or min(found) < 0:
            return None
        shares = [round(one / total, 2) for one in found[:-1]]
        told = dict(zip(WEIGHTS, map(plain, [*shares, 1 - sum(shares)]), strict=True))
        return urlencode([(name, told.get(name, value)) for name, value in self._all_pairs()])

    def _all_pairs(self) -> Iterator[tuple[str, str]]:
        yield from ((name, value) for name, value in self._pairs() if name not in WEIGHTS)
        yield from ((one.kind.name, one.value) for one in self.fields if one.kind.name in WEIGHTS)


def read(query: Any, persona: Persona, bundle: Bundle, book: PriceBook, now: datetime) -> Asked:
    """The fields as an address (``out``, ``in``) or the form (``use``, with ``form``) names them; what is left out
    stands."""
    used = _used(query, bundle)
    return Asked(
        persona=persona.slug,
        tenant=query.get("tenant", "").strip()[:63],
        fields=tuple(_field(query, kind, getattr(persona, kind.name)) for kind in KINDS),
        rows=tuple(
            _row(query, slug, slug in used, bundle, book.in_force(slug, now))
            for slug in sorted(bundle.profiles)
        ),
    )


def _field(query: Any, kind: Kind, value: Any) -> Field:
    standing = plain(value)
    asked = query.get(kind.name)
    told = standing if asked is None else asked.strip()[:30]
    # What may not be empty, and is, stands.
    return Field(kind, standing, told or ("" if kind.empty else standing))


def _used(query: Any, bundle: Bundle) -> set[str]:
    if "form" in query:
        return set(query.getlist("use"))
    enabled = {slug for slug, profile in bundle.profiles.items() if profile.enabled}
    return (enabled | set(query.getlist("in"))) - set(query.getlist("out"))


def _row(query: Any, slug: str, used: bool, bundle: Bundle, price: Price | None) -> Row:
    profile = bundle.profiles[slug]
    barred = profile.tier not in bundle.enabled_tiers
    return Row(
        slug=slug,
        enabled=profile.enabled,
        # A box that cannot be ticked is not sent.
        used=profile.enabled if barred else used,
        why_not=f"tier {profile.tier} is not enabled" if barred else None,
        prices=tuple(_price_field(query, slug, part, price) for part in PRICES),
    )


def _price_field(query: Any, slug: str, part: str, price: Price | None) -> PriceField:
    standing = plain(getattr(price, f"{part}_per_1k")) if price else ""
    name = f"{part}:{slug}"
    asked = query.get(name)
    told = standing if asked is None else asked.strip()[:30]
    # Of cached tokens, empty means as the prompt's; of others, that it stands.
    return PriceField(part, name, standing, told or ("" if part == "cached" else standing))


def _prices(row: Row) -> dict[str, str | None]:
    return {f"{one.part}_per_1k": one.value or None for one in row.prices if one.is_changed}


def plain(value: Any) -> str:
    """A number without the zeros that its column's scale adds; empty: none."""
    if value is None:
        return ""
    return format(Decimal(value).normalize(), "f")


def _same(one: str, other: str) -> bool:
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return one == other


def checked(asked: Asked, bundle: Bundle, book: PriceBook, now: datetime) -> Hypothesis | tuple[str, ...]:
    """What is asked as a hypothesis, or what is wrong with it, in sentences: by the API's own rules."""
    serializer = WhatIfSerializer(data=asked.body)
    if not serializer.is_valid():
        return tuple(_sentences(serializer.errors))
    try:
        return hypothesis_of(serializer.validated_data, bundle, lambda: book, now)
    except Problem as problem:
        return (str(problem.detail),)


def _sentences(errors: Any, name: str = "") -> Iterator[str]:
    if isinstance(errors, Mapping):
        for inner, told in errors.items():
            yield from _sentences(told, str(inner) or name)
    elif isinstance(errors, list):
        for told in errors:
            yield from _sentences(told, name)
    else:
        yield f"{LABELS.get(name, name)}: {errors}"


LABELS = {kind.name: kind.label for kind in KINDS}


def complaints(error: Any) -> tuple[str, ...]:
    """A ValidationError of the model, in sentences."""
    told = getattr(error, "message_dict", {"": error.messages})
    return tuple(_sentences(told))
