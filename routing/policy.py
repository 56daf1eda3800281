"""The policy bundle: everything a decision depends on, as plain immutable data with one version. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from sys import intern
from typing import Any, TypeVar

import msgspec
import orjson

from routing.circuit import Barred
from routing.flag_state import FlagState
from routing.packed import Kept, PackedCards, ToldScope, ToldSnapshot
from routing.scoring import Scorecard, ScoringRules
from routing.standing import Standing

#: Views that a bundle keeps, of 30 kB each with 20 candidates. A view made anew costs its request a millisecond or two.
MOST_VIEWS = 2_000

K = TypeVar("K")
V = TypeVar("V")


def canonical_json(value: object) -> bytes:
    """The one byte form of JSON values: sorted keys, no spaces, UTF-8. Give it no NaN: it would be null."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True, slots=True)
class BundleTenant:
    slug: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class BundlePersona:
    slug: str
    enabled: bool
    default_profile: str
    exploration_share: float = 0.0
    holdout_share: float = 0.0
    switch_margin: float = 0.0


@dataclass(frozen=True, slots=True)
class BundleProfile:
    slug: str
    provider: str
    model: str
    base_url: str
    tier: str
    enabled: bool
    context_window: int

    def to_dict(self) -> dict[str, Any]:
        """What a worker needs to call it."""
        return {
            "slug": self.slug,
            "provider": self.provider,
            "model": self.model,
            "base_url": self.base_url,
            "tier": self.tier,
            "context_window": self.context_window,
        }


@dataclass(frozen=True)
class ScopeScores:
    """Scorecards of a scope, best first; ``as_of`` is how old they are; None: no telemetry at all.

    ``rules`` are those they were scored by, which the persona's may have left behind; None: not kept.
    """

    scorecards: Sequence[Scorecard]
    as_of: datetime | None
    incumbent: str
    rules: ScoringRules | None = None

    @property
    def ranked(self) -> tuple[Scorecard, ...]:
        """The eligible ones, best first."""
        return tuple(card for card in self.scorecards if card.eligible)

    def to_dict(self) -> dict[str, Any]:
        return {
            "scorecards": [card.to_dict() for card in self.scorecards],
            "as_of": self.as_of.isoformat() if self.as_of else None,
            "incumbent": self.incumbent,
            **({"rules": self.rules.to_dict()} if self.rules else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ScopeScores":
        return cls(
            scorecards=PackedCards(orjson.dumps(data["scorecards"])),
            as_of=datetime.fromisoformat(data["as_of"]) if data["as_of"] else None,
            incumbent=data["incumbent"],
            rules=ScoringRules.from_dict(data["rules"]) if data.get("rules") else None,
        )

    @classmethod
    def told(cls, told: ToldScope, rules: dict[bytes, ScoringRules]) -> "ScopeScores":
        """What ``to_dict`` told in JSON. Scopes of the same ``rules``, by their JSON, share them."""
        key = bytes(told.rules)
        if key and key not in rules:
            rules[key] = ScoringRules.from_dict(orjson.loads(key))
        return cls(
            scorecards=PackedCards(memoryview(told.scorecards)),
            as_of=datetime.fromisoformat(told.as_of) if told.as_of else None,
            incumbent=intern(told.incumbent),
            rules=rules.get(key),
        )


def _nested(scopes: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    # Slugs hold no control characters, but a JSON key is one string: nesting needs no separator.
    nested: dict[str, dict[str, Any]] = {}
    for (tenant, persona), value in scopes.items():
        nested.setdefault(tenant, {})[persona] = value
    return nested


def _flat(nested: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    return {(tenant, persona): value for tenant, of in nested.items() for persona, value in of.items()}


def _chosen(values: Mapping[K, V], keys: Iterable[K]) -> dict[K, V]:
    return {key: values[key] for key in keys if key in values}


@dataclass(frozen=True, slots=True)
class BundleSnapshot:
    """All scores of one scoring run; a scope that is absent uses its persona's over all tenants."""

    id: str
    created_at: datetime
    scopes: Mapping[tuple[str, str], ScopeScores]
    persona_scopes: Mapping[str, ScopeScores]

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "created_at": self.created_at.isoformat(),
            "scopes": _nested({scope: scores.to_dict() for scope, scores in self.scopes.items()}),
            "persona_scopes": {name: scores.to_dict() for name, scores in self.persona_scopes.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BundleSnapshot":
        return cls(
            id=data["id"],
            created_at=datetime.fromisoformat(data["created_at"]),
            scopes={key: ScopeScores.from_dict(value) for key, value in _flat(data["scopes"]).items()},
            persona_scopes={
                name: ScopeScores.from_dict(value) for name, value in data["persona_scopes"].items()
            },
        )

    @classmethod
    def from_json(cls, id_: str, payload: bytes) -> "BundleSnapshot":
        """``from_dict`` of JSON, in a fraction of the memory. Raises msgspec.ValidationError for anything else."""
        told, rules = msgspec.json.decode(payload, type=ToldSnapshot), dict[bytes, ScoringRules]()
        return cls(
            id=id_,
            created_at=datetime.fromisoformat(told.created_at),
            scopes={key: ScopeScores.told(scope, rules) for key, scope in _flat(told.scopes).items()},
            persona_scopes={name: ScopeScores.told(of, rules) for name, of in told.persona_scopes.items()},
        )


_PERSONA_FIELDS = ("enabled", "default_profile", "exploration_share", "holdout_share", "switch_margin")


@dataclass(frozen=True)
class Bundle:
    """Everything a decision depends on. ``scope_defaults`` are tenants' own default profiles."""

    version: str
    tenants: Mapping[str, BundleTenant]
    personas: Mapping[str, BundlePersona]
    scope_defaults: Mapping[tuple[str, str], str]
    profiles: Mapping[str, BundleProfile]
    enabled_tiers: frozenset[str]
    flag: FlagState
    snapshot: BundleSnapshot | None
    standing: Standing = field(default_factory=Standing)

    @cached_property
    def usable(self) -> Mapping[str, BundleProfile]:
        """Profiles that a decision may give: enabled, of an enabled tier."""
        return {
            slug: profile
            for slug, profile in self.profiles.items()
            if profile.enabled and profile.tier in self.enabled_tiers
        }

    def why_unusable(self, slug: str) -> str | None:
        """What keeps a profile from being given, for people; None: nothing does."""
        if slug in self.usable:
            return None
        profile = self.profiles.get(slug)
        if profile is None:
            return "not in the catalogue"
        return f"tier {profile.tier} is not enabled" if profile.enabled else "disabled"

    @cached_property
    def views(self) -> dict[tuple[int, tuple[str, ...], Barred], Any]:
        """What the engine worked out of a scope's scores, by their identity, what people exclude and what is barred;
        filled as scopes are asked for, since a bundle's scopes outnumber those that any one process serves. The last
        few thousand are kept."""
        return Kept(MOST_VIEWS)

    @cached_property
    def glances(self) -> dict[tuple[int, tuple[str, ...], Barred], Any]:
        """As ``views``, of those that show no candidates, which are small."""
        return {}

    def default_profile(self, tenant: str, persona: str) -> str:
        """The incumbent's slug of a known persona."""
        return self.scope_defaults.get((tenant, persona)) or self.personas[persona].default_profile

    def scores(self, tenant: str, persona: str) -> ScopeScores | None:
        """The scope's scores: its own, else the persona's over all tenants; None without a snapshot, and
        when the only scores were measured against another default profile."""
        if self.snapshot is None:
            return None
        own = self.snapshot.scopes.get((tenant, persona))
        scores = own if own is not None else self.snapshot.persona_scopes.get(persona)
        if scores is None or scores.incumbent != self.default_profile(tenant, persona):
            return None
        return scores

    def for_tenants(self, tenants: frozenset[str] | None) -> "Bundle":
        """What may be shown to a caller of these tenants (None: all). It decides for them as the whole does."""
        if tenants is None:
            return self
        snapshot = self.snapshot
        # Looked up rather than searched for: a key of one tenant among thousands costs one tenant's work.
        scopes = [(tenant, persona) for tenant in tenants for persona in self.personas]
        return replace(
            self,
            tenants={slug: self.tenants[slug] for slug in tenants if slug in self.tenants},
            scope_defaults=_chosen(self.scope_defaults, scopes),
            flag=replace(
                self.flag,
                tenants=_chosen(self.flag.tenants, tenants),
                scopes=_chosen(self.flag.scopes, tenants),
            ),
            snapshot=snapshot and replace(snapshot, scopes=_chosen(snapshot.scopes, scopes)),
            standing=self.standing.for_tenants(tenants),
        )

    def keep_views_of(self, last: "Bundle") -> None:
        """Go on with what was worked out of the scores, when nothing that it follows from changed."""
        same = self.profiles == last.profiles and self.enabled_tiers == last.enabled_tiers
        if same and self.snapshot is last.snapshot:
            self.__dict__["views"], self.__dict__["glances"] = last.views, last.glances

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``from_dict`` gives back an equal bundle."""
        return {
            "version": self.version,
            "tenants": {slug: tenant.enabled for slug, tenant in self.tenants.items()},
            "personas": {
                slug: {name: getattr(persona, name) for name in _PERSONA_FIELDS}
                for slug, persona in self.personas.items()
            },
            "scope_defaults": _nested(self.scope_defaults),
            "profiles": {
                slug: {**profile.to_dict(), "enabled": profile.enabled}
                for slug, profile in self.profiles.items()
            },
            "enabled_tiers": sorted(self.enabled_tiers),
            "flag": self.flag.to_dict(),
            "standing": self.standing.to_dict(),
            "snapshot": self.snapshot.to_dict() if self.snapshot else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Bundle":
        snapshot = data["snapshot"]
        return cls(
            version=data["version"],
            tenants={slug: BundleTenant(slug, enabled) for slug, enabled in data["tenants"].items()},
            personas={slug: BundlePersona(slug=slug, **fields) for slug, fields in data["personas"].items()},
            scope_defaults=_flat(data["scope_defaults"]),
            profiles={slug: BundleProfile(**fields) for slug, fields in data["profiles"].items()},
            enabled_tiers=frozenset(data["enabled_tiers"]),
            flag=FlagState(**data["flag"]),
            standing=Standing.from_dict(data["standing"]),
            snapshot=BundleSnapshot.from_dict(snapshot) if snapshot else None,
        )
