"""The names that may appear in an event, and prices: read at a policy version, kept in the process."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.models import ModelProfile, Persona, Tenant
from catalog.prices import PriceBook, load_price_book
from catalog.versions import current_version


@dataclass(frozen=True, slots=True)
class Directory:
    """Disabled names are known too: their completions still happened."""

    version: int
    tenants: frozenset[str]
    personas: frozenset[str]
    profiles: frozenset[str]
    #: The model that each profile asks its provider for.
    models: Mapping[str, str]
    prices: PriceBook


_lock = threading.Lock()
_kept: Directory | None = None


def directory() -> Directory:
    """The directory as of now; one query when nothing changed since the last call."""
    global _kept
    version = current_version()
    kept = _kept
    if kept is not None and kept.version == version:
        return kept
    with _lock:
        # The version is read first: a change made while reading shows as a newer version next time.
        models = dict(ModelProfile.objects.values_list("slug", "model"))
        _kept = Directory(
            version=version,
            tenants=frozenset(Tenant.objects.values_list("slug", flat=True)),
            personas=frozenset(Persona.objects.values_list("slug", flat=True)),
            profiles=frozenset(models),
            models=models,
            prices=load_price_book(),
        )
        return _kept


def forget() -> None:
    """Drop what is kept (a test's database is rolled back, and versions repeat)."""
    global _kept
    with _lock:
        _kept = None
