"""What every test needs: nothing kept from the test before."""

import os
from pathlib import Path

import pytest
from django.core.cache import caches
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django.fixtures import Settings

from catalog import directory
from catalog.outage import outage
from routing import archive, bundle, journal, serving

# How long a draw or an example takes says more about the machine than about the code. In CI the examples
# are the same each time, so that a failure there is one that can be seen again.
hypothesis_settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
hypothesis_settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _nothing_kept(settings: Settings, tmp_path: Path) -> None:
    """Databases are rolled back between tests, so versions repeat, and what was kept would look current.
    Files go to a folder of the test's own."""
    settings.DATA_DIR = tmp_path
    for cache in caches.all(initialized_only=True):
        cache.clear()
    directory.forget()
    bundle.forget_bundle()
    archive.archive.forget()
    serving.policy_server.forget()
    journal.journal.close()
    outage.end()
