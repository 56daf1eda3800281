"""One number that changes, in the same transaction, with everything a decision depends on.

Every process compares it with the number its policy bundle was built from; only a change makes it
read the catalogue again.
"""

from collections.abc import Iterable
from typing import Any, Self, TypeVar

from django.db import models, transaction
from django.db.models import F
from django.dispatch import Signal


class PolicyVersion(models.Model):
    """The only row (id 1) holds the number."""

    number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="policy_version_one_row")]

    def __str__(self) -> str:
        return str(self.number)


def current_version() -> int:
    """The number now; one primary-key read."""
    return PolicyVersion.objects.filter(id=1).values_list("number", flat=True).first() or 0


#: Sent after a change was committed by this process; others look at the number.
policy_changed = Signal()


def bump_version() -> None:
    """Say that policy changed; takes part in the caller's transaction."""
    if not PolicyVersion.objects.filter(id=1).update(number=F("number") + 1):
        PolicyVersion.objects.get_or_create(id=1, defaults={"number": 1})
    transaction.on_commit(_tell, robust=True)


def _tell() -> None:
    policy_changed.send(sender=PolicyVersion)


M = TypeVar("M", bound=models.Model, covariant=True)


class PolicyQuerySet(models.QuerySet[M]):
    """A queryset whose bulk writes bump the version too, so that no path goes round it."""

    def update(self, **kwargs: Any) -> int:
        with transaction.atomic():
            changed = super().update(**kwargs)
            bump_version()
        return changed

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            deleted = super().delete()
            bump_version()
        return deleted

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        with transaction.atomic():
            created = super().bulk_create(objs, *args, **kwargs)
            bump_version()
        return created

    def bulk_update(self, objs: Iterable[M], fields: Iterable[str], batch_size: int | None = None) -> int:
        with transaction.atomic():
            changed = super().bulk_update(objs, fields, batch_size)
            bump_version()
        return changed


class VersionedModel(models.Model):
    """Saving or deleting a row says that policy changed."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)
            bump_version()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            deleted = super().delete(*args, **kwargs)
            bump_version()
        return deleted


class PolicyModel(VersionedModel):
    """Base of every model that a decision depends on: bulk writes count, too."""

    objects = models.Manager.from_queryset(PolicyQuerySet[Self])()

    class Meta:
        abstract = True
