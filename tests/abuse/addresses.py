"""Every address of the URLconf, leading somewhere: from the tables that the isolation tests hold complete."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, reverse

from tests.flows.test_isolation import (
    ADMIN_PAGES,
    API,
    ARGUMENTS,
    CENTER,
    ENDPOINTS,
    PUBLIC,
    REGISTERED,
    VIEWS,
    _path,
    center_address,
    patterns,
)

#: Everything outside of the API, by name. Needs ``world()`` where an address is about a row.
PAGES = [
    *(f"center {name}" for name in CENTER),
    *(f"admin {name}" for name in sorted(ADMIN_PAGES)),
    *(f"model {model._meta.label} {view}" for model in REGISTERED for view in VIEWS),
    *(f"public {name}" for name in sorted(PUBLIC)),
]
UNSAFE = ("post", "put", "patch", "delete")


def address(page: str) -> str:
    """The path of one of PAGES."""
    kind, name, *view = page.split(" ")
    if kind == "center":
        return center_address(name)
    if kind == "admin":
        return reverse(f"admin:{name}", kwargs=ARGUMENTS.get(name))
    if kind == "public":
        return reverse(name)
    model = next(one for one in admin.site._registry if one._meta.label == name)
    row: Any = model._default_manager.first()
    return _path(model, view[0], row.pk if row else 1)


def endpoint(name: str, method: str) -> str:
    """The path of an endpoint of the API, with the query that it is asked with."""
    how = ENDPOINTS[name, method]
    path = reverse(name, kwargs=how.arguments())
    return f"{path}?{how.query}" if how.query else path


def root(client: Client) -> User:
    """Signs in somebody who may do everything."""
    user = User.objects.create_superuser("root", password="only for tests 1")
    client.force_login(user)
    return user


def unknown() -> Iterator[str]:
    """Names of patterns that PAGES and API do not know: a new one must not be forgotten."""
    known = {name for name, _ in API} | PUBLIC | {"", "admin:", "admin:auth_user_password_change"}
    known |= {f"admin:{name}" for name in (*ADMIN_PAGES, *CENTER)}
    pattern: URLPattern
    for name, pattern in patterns():
        if name not in known and not any(name == f"admin:{_model(m, v)}" for m in REGISTERED for v in VIEWS):
            yield f"{name} {pattern.pattern}"


def _model(model: Any, view: str) -> str:
    return f"{model._meta.app_label}_{model._meta.model_name}_{view}"
