"""The policy version changes with everything a decision depends on, whatever the path of the change."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import transaction

from catalog.models import ModelProfile, Persona, PriceRevision, ScopeDefault, Tenant
from catalog.versions import current_version
from overrides.flags import AUTO_MODEL_SELECTION
from overrides.models import Flag, FlagScope, FlagTenant
from tests import factories

pytestmark = pytest.mark.django_db


def flag() -> Flag:
    found: Flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    return found


CHANGES: dict[str, Callable[[], object]] = {
    "a tenant is saved": lambda: factories.tenant("new"),
    "a persona is saved": lambda: factories.persona().save(),
    "profiles are updated in bulk": lambda: ModelProfile.objects.update(enabled=True),
    "tenants are made in bulk": lambda: Tenant.objects.bulk_create([Tenant(slug="b", name="b")]),
    "personas are changed in bulk": lambda: Persona.objects.bulk_update([factories.persona()], ["name"]),
    "a price is saved": lambda: factories.price(factories.profile()),
    "prices are deleted in bulk": lambda: PriceRevision.objects.all().delete(),
    "a tenant gets a default of its own": lambda: ScopeDefault.objects.create(
        tenant=factories.tenant(), persona=factories.persona(), profile=factories.profile()
    ),
    "a tenant is deleted": lambda: factories.tenant().delete(),
    "the flag is saved": lambda: flag().save(),
    "flags are updated in bulk": lambda: Flag.objects.update(everyone=True),
    "a tenant's rollout is saved": lambda: FlagTenant.objects.create(
        flag=flag(), tenant=factories.tenant(), rollout_percent=Decimal(10)
    ),
    "a scope's rollout is saved": lambda: FlagScope.objects.create(
        flag=flag(), tenant=factories.tenant(), persona=factories.persona(), rollout_percent=Decimal(10)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_version_changes_when(change: Callable[[], object]) -> None:
    factories.scope()
    before = current_version()
    change()
    assert current_version() > before


def test_a_change_that_is_rolled_back_leaves_the_version() -> None:
    before = current_version()
    with transaction.atomic():
        factories.tenant("new")
        assert current_version() > before
        transaction.set_rollback(True)
    assert current_version() == before
