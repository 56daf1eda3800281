"""What people decided: the feature flag that turns automatic selection on, per tenant and share."""

import secrets
from decimal import Decimal
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from waffle.managers import FlagManager
from waffle.models import AbstractUserFlag

from catalog.models import Tenant
from catalog.versions import PolicyModel, PolicyQuerySet, VersionedModel

_PERCENT = [MinValueValidator(Decimal(0)), MaxValueValidator(Decimal(100))]
_PERCENT_CHECK = Q(rollout_percent__gte=0, rollout_percent__lte=100)


def new_salt() -> str:
    return secrets.token_hex(8)


class Flag(VersionedModel, AbstractUserFlag):
    """A waffle flag that rolls out per tenant and by a stable share of conversations.

    ``everyone`` (yes or no) wins; else a tenant's own percentage, else ``rollout_percent``. Waffle's own
    ``percent`` and ``testing`` stay unused: the first flips per request, the second lets anyone flip the
    flag by query string.
    """

    rollout_percent = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        validators=_PERCENT,
        help_text="Share of conversations, 0 to 100, of tenants that have no row of their own. "
        "Stable: a conversation keeps its side, and raising the percentage never takes one out.",
    )
    salt = models.CharField(
        max_length=32,
        default=new_salt,
        editable=False,
        help_text="Makes the shares of two flags independent of each other.",
    )
    tenants = models.ManyToManyField(Tenant, through="FlagTenant", related_name="flags")

    # Waffle's manager, with bulk writes that bump the policy version, too.
    objects: ClassVar[Any] = FlagManager.from_queryset(PolicyQuerySet)()

    class Meta(AbstractUserFlag.Meta):
        abstract = False
        ordering = ["name"]
        constraints = [models.CheckConstraint(condition=_PERCENT_CHECK, name="flag_rollout_percent_range")]


class FlagTenant(PolicyModel):
    """One tenant's own rollout percentage of a flag."""

    flag = models.ForeignKey(Flag, on_delete=models.CASCADE, related_name="tenant_rollouts")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="flag_rollouts")
    rollout_percent = models.DecimalField(
        max_digits=5, decimal_places=2, validators=_PERCENT, help_text="Share of conversations, 0 to 100."
    )

    class Meta:
        ordering = ["tenant__slug"]
        verbose_name = "tenant's rollout"
        constraints = [
            models.UniqueConstraint(fields=["flag", "tenant"], name="flag_once_per_tenant"),
            models.CheckConstraint(condition=_PERCENT_CHECK, name="flag_tenant_rollout_percent_range"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant}: {self.rollout_percent}%"
