"""What a scoring run gives all its parts, as JSON values and back. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any

from routing.rules import ScoringRules
from routing.snapshots import ByScope, ScoringCatalogue, Windows
from telemetry.totals import Totals


@dataclass(frozen=True, slots=True)
class Work:
    """The catalogue, and totals per persona over all tenants. Read once, so that a persona's tenants borrow from the
    same totals whoever scores them."""

    catalogue: ScoringCatalogue
    pooled: Windows

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``from_dict`` gives back equal work."""
        catalogue = self.catalogue
        return {
            "version": catalogue.version,
            "rules": {persona: rules.to_dict() for persona, rules in catalogue.rules.items()},
            "incumbents": dict(catalogue.incumbents),
            "scope_incumbents": [[*scope, profile] for scope, profile in catalogue.scope_incumbents.items()],
            "profiles": sorted(catalogue.profiles),
            "tenants": sorted(catalogue.tenants),
            "personas_lend": catalogue.personas_lend,
            "day": _told(self.pooled.day),
            "hour": _told(self.pooled.hour),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Work":
        catalogue = ScoringCatalogue(
            version=data["version"],
            rules={persona: ScoringRules.from_dict(rules) for persona, rules in data["rules"].items()},
            incumbents=data["incumbents"],
            scope_incumbents={(tenant, of): profile for tenant, of, profile in data["scope_incumbents"]},
            profiles=frozenset(data["profiles"]),
            tenants=frozenset(data["tenants"]),
            personas_lend=data["personas_lend"],
        )
        return cls(catalogue, Windows(day=_read(data["day"]), hour=_read(data["hour"])))


def _told(pooled: ByScope) -> dict[str, dict[str, Any]]:
    return {
        persona: {profile: _told_totals(totals) for profile, totals in of.items()}
        for (_, persona), of in pooled.items()
    }


def _read(told: Mapping[str, Mapping[str, Any]]) -> ByScope:
    return {
        (None, persona): {profile: _read_totals(totals) for profile, totals in of.items()}
        for persona, of in told.items()
    }


def _told_totals(totals: Totals) -> dict[str, Any]:
    values = {field.name: getattr(totals, field.name) for field in fields(totals)}
    last = totals.last_event_at
    return {
        **values,
        "accuracy_sum": format(totals.accuracy_sum, "f"),
        "cost_usd": format(totals.cost_usd, "f"),
        "last_event_at": None if last is None else last.isoformat(),
    }


def _read_totals(told: Mapping[str, Any]) -> Totals:
    last = told["last_event_at"]
    return Totals(
        **{
            **told,
            "accuracy_sum": Decimal(told["accuracy_sum"]),
            "cost_usd": Decimal(told["cost_usd"]),
            "latency": tuple(told["latency"]),
            "last_event_at": None if last is None else datetime.fromisoformat(last),
        }
    )
