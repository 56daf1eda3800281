"""What every test needs: nothing kept from the test before."""

import os

import pytest
from django.core.cache import caches
from hypothesis import HealthCheck, settings

from catalog import directory
from catalog.outage import outage
from routing import archive, bundle

# How long a draw or an example takes says more about the machine than about the code. In CI the examples
# are the same each time, so that a failure there is one that can be seen again.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    """Databases are rolled back between tests, so versions repeat, and what was kept would look current."""
    for cache in caches.all(initialized_only=True):
        cache.clear()
    directory.forget()
    bundle.forget_bundle()
    archive.archive.forget()
    outage.end()
