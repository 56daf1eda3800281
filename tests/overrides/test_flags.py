from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.test import Client
from waffle import get_waffle_flag_model

from overrides.flags import AUTO_MODEL_SELECTION, read_flag
from overrides.models import Flag, FlagScope, FlagTenant
from tests import factories

pytestmark = pytest.mark.django_db


def test_the_flag_is_there_from_the_start_and_off() -> None:
    flag = read_flag()
    assert (flag.everyone, flag.percent, flag.tenants) == (None, 0.0, {})
    assert Flag.objects.get(name=AUTO_MODEL_SELECTION).note


@pytest.mark.django_db(transaction=True)
def test_the_flag_is_there_again_after_a_flush() -> None:
    Flag.objects.all().delete()
    call_command("flush", interactive=False, verbosity=0)
    assert read_flag().everyone is None


def test_a_migrate_leaves_the_flag_as_people_set_it() -> None:
    Flag.objects.update(everyone=True)
    call_command("migrate", verbosity=0)
    assert read_flag().everyone is True


def test_waffle_itself_uses_the_same_model() -> None:
    assert get_waffle_flag_model() is Flag


def test_a_flag_that_is_not_there_is_off() -> None:
    Flag.objects.all().delete()
    assert read_flag().everyone is False


def test_a_tenant_has_its_own_percentage() -> None:
    flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    flag.rollout_percent = Decimal("12.5")
    flag.save()
    FlagTenant.objects.create(flag=flag, tenant=factories.tenant(), rollout_percent=Decimal(100))
    told = read_flag()
    assert (told.percent, told.tenants) == (12.5, {"aurora": 100.0})


def test_a_scope_has_its_own_percentage() -> None:
    flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    tenant, persona = factories.tenant(), factories.persona()
    FlagScope.objects.create(flag=flag, tenant=tenant, persona=persona, rollout_percent=Decimal("2.5"))
    assert read_flag().scopes == {tenant.slug: {persona.slug: 2.5}}
    with pytest.raises(IntegrityError), transaction.atomic():
        FlagScope.objects.create(flag=flag, tenant=tenant, persona=persona, rollout_percent=Decimal(1))
    with pytest.raises(IntegrityError), transaction.atomic():
        FlagScope.objects.update(rollout_percent=Decimal(101))


@pytest.mark.parametrize("percent", ["-1", "100.01"])
def test_a_percentage_out_of_bounds_is_refused_by_model_and_database(percent: str) -> None:
    flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    flag.rollout_percent = Decimal(percent)
    with pytest.raises(ValidationError):
        flag.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        flag.save()


def test_each_flag_has_a_salt_of_its_own() -> None:
    assert Flag(name="one").salt != Flag(name="another").salt


def test_the_flag_can_be_neither_deleted_nor_added_to_in_the_admin(admin_client: Client) -> None:
    flag = Flag.objects.get(name=AUTO_MODEL_SELECTION)
    assert admin_client.post(f"/admin/overrides/flag/{flag.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get("/admin/overrides/flag/add/").status_code == 403
    page = admin_client.get(f"/admin/overrides/flag/{flag.pk}/change/").content.decode()
    assert "By the percentages below" in page
