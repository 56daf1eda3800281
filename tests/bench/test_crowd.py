"""The benches' many tenants."""

import pytest

from catalog.models import Tenant
from tests import factories
from tests.crowd import crowd

pytestmark = pytest.mark.django_db


def test_the_crowd_is_whole_beside_other_tenants_and_grows_to_what_is_asked_for() -> None:
    factories.tenant("aurora")
    crowd(0, tenants=3)
    crowd(0, tenants=5)
    assert set(Tenant.objects.values_list("slug", flat=True)) == {
        "aurora",
        *(f"tenant-{number}" for number in range(5)),
    }
