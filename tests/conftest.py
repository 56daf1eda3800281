"""What every test needs: nothing kept from the test before."""

import pytest
from django.core.cache import caches

from catalog import directory
from routing import bundle


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    """Databases are rolled back between tests, so versions repeat, and what was kept would look current."""
    for cache in caches.all(initialized_only=True):
        cache.clear()
    directory.forget()
    bundle.forget_bundle()
