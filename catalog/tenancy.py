"""Which rows a caller may see: the one place that filters querysets by tenant.

A model that belongs to tenants says so by ``tenancy``; one without it is seen by those only who see all tenants.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

#: Slugs of tenants; None: all of them.
Tenants = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Tenancy:
    """``path``: the lookup of the tenant's slug; None: the rows are everybody's. ``shared``: rows that concern all
    tenants, and so are seen by each."""

    path: str | None
    shared: Q | None = None

    def condition(self, tenants: Tenants) -> Q:
        """What rows must meet to be seen by a caller of these tenants."""
        if tenants is None or self.path is None:
            return Q()
        own = Q(**{f"{self.path}__in": tenants})
        return own | self.shared if self.shared is not None else own


#: Everybody may look: personas, profiles and prices are shared by all tenants.
EVERYBODYS = Tenancy(None)

M = TypeVar("M", bound=Model)


def tenancy_of(model: type[Model]) -> Tenancy | None:
    """None: rows of this model belong to no tenant, nor to everybody."""
    found: Tenancy | None = getattr(model, "tenancy", None)
    return found


def within(rows: QuerySet[M], tenants: Tenants) -> QuerySet[M]:
    """The rows that a caller of these tenants may see."""
    tenancy = tenancy_of(rows.model)
    if tenancy is None:
        return rows if tenants is None else rows.none()
    return rows.filter(tenancy.condition(tenants))


def covers(tenants: Tenants, row: Any) -> bool:
    """Whether a row belongs to these tenants alone, so that who acts for them may change it. What concerns all
    tenants takes a caller of all."""
    if tenants is None:
        return True
    tenancy = tenancy_of(type(row))
    if tenancy is None or tenancy.path is None:
        return False
    own = Tenancy(tenancy.path).condition(tenants)
    return bool(type(row)._default_manager.filter(own, pk=row.pk).exists())
