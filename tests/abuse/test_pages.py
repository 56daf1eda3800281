"""Generated over every address: nothing changes without a token, every answer has the security headers; no host,
redirect, method or parameter that somebody made up gets through."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.fixtures import Settings

from overrides.models import AuditEntry
from tests import factories
from tests.abuse.addresses import PAGES, UNSAFE, address, endpoint, root, unknown
from tests.flows.test_isolation import API, CENTER, world

pytestmark = pytest.mark.django_db
HOSTILE_HOSTS = (
    "evil.example",
    "localhost:80@evil.example",
    "localhost, evil.example",
    "evil.example/localhost",
    "localhost.evil.example",
    "[::1",
)
#: Orchestrators ask a process by its address, whatever its name.
PROBES = {"/healthz", "/readyz"}
#: Where a page must not lead to. Browsers read all of them as another host, or run them.
ELSEWHERE = (
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "///evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    " //evil.example",
    "/\t/evil.example",
)
HOSTILE_VALUES = (
    "\x00",
    "9" * 40,
    "-1",
    "' OR 1=1 --",
    "<script>alert(1)</script>",
    "%0d%0aX-Injected: 1",
)


def test_every_address_is_tried() -> None:
    assert list(unknown()) == []


# --- forged requests ---


@pytest.mark.slow
def test_no_page_takes_an_unsafe_request_without_its_token() -> None:
    world()
    client = Client(enforce_csrf_checks=True)
    root(client)
    before = AuditEntry.objects.count()
    for page in PAGES:
        for method in UNSAFE if not page.startswith("public") else ():
            answer = client.generic(method, address(page), b"reason=forged by another site")
            assert answer.status_code == 403, (page, method)
    assert AuditEntry.objects.count() == before


def test_the_api_takes_nothing_from_a_signed_in_browser_without_its_token() -> None:
    world()
    client = Client(enforce_csrf_checks=True)
    root(client)
    # Some are addresses of what is made for them, which is audited.
    addresses = [(method, endpoint(name, method)) for name, method in API if method in UNSAFE]
    before = AuditEntry.objects.count()
    for method, address_ in addresses:
        answer = client.generic(method, address_, b"{}", content_type="application/json")
        assert answer.status_code == 403, (method, address_)
    assert AuditEntry.objects.count() == before


def test_with_its_token_a_page_does_take_one(client: Client) -> None:
    """The tests above fail for the token's sake, and nothing else's."""
    client = Client(enforce_csrf_checks=True)
    root(client)
    factories.scope()
    token = client.get("/admin/password_change/").cookies["csrftoken"].value
    taken = client.post("/admin/logout/", {"csrfmiddlewaretoken": token})
    assert taken.status_code in (200, 302)


# --- headers and cookies ---


def assert_guarded(answer: Any, path: str) -> None:
    if path in PROBES:
        assert answer["Content-Type"] in ("text/plain; charset=utf-8", "application/json")
        return
    assert "Content-Security-Policy" in answer, path
    policy = {
        name: sources.split()
        for name, _, sources in (
            part.strip().partition(" ") for part in answer["Content-Security-Policy"].split(";")
        )
    }
    assert policy["default-src"] == ["'none'"], path
    assert policy["script-src"] == ["'self'"], path
    assert policy["frame-ancestors"] == policy["base-uri"] == ["'none'"], path
    assert policy["form-action"] == policy["connect-src"] == ["'self'"], path
    # Swagger UI sets styles on elements (docs/adr names it); no other page is relaxed.
    relaxed = ["'unsafe-inline'"] if path == "/api/docs/" else []
    assert [one for one in policy["style-src"] if one != "'self'"] == relaxed, path
    assert answer["X-Content-Type-Options"] == "nosniff", path
    assert answer["X-Frame-Options"] == "DENY", path
    assert answer["Referrer-Policy"] == "same-origin", path
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin", path
    assert not {"Server", "X-Powered-By"} & set(answer.headers), path
    for cookie in answer.cookies.values():
        assert cookie["samesite"] == "Lax", (path, cookie.key)
        assert cookie["domain"] == "", (path, cookie.key)
        if configured.SESSION_COOKIE_SECURE:
            assert cookie["secure"], (path, cookie.key)
            assert cookie.key.startswith("__Host-"), path
        if "session" in cookie.key:
            assert cookie["httponly"], path


def insist_on_https(settings: Settings) -> None:
    """As TRAINING and PRODUCTION set it (config.settings)."""
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31_536_000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True


@pytest.mark.slow
def test_every_page_has_the_headers_for_those_signed_in_and_those_not(settings: Settings) -> None:
    world()
    insist_on_https(settings)
    stranger, boss = Client(), Client()
    root(boss)
    for page in PAGES:
        path = address(page)
        # Signing out is the last thing to try.
        for client in (stranger, boss) if page != "admin logout" else (stranger,):
            answer = client.get(path, secure=True)
            assert answer.status_code < 500, path
            assert_guarded(answer, path)
            assert path in PROBES or "max-age=31536000" in answer["Strict-Transport-Security"], path
            if client is boss and not page.startswith("public"):
                assert "no-store" in answer.get("Cache-Control", "no-store"), path


def test_every_endpoint_has_the_headers_whatever_it_answers(settings: Settings) -> None:
    world()
    insist_on_https(settings)
    client, key = Client(), factories.key(tenants=())
    for name, method in API:
        for headers in ({}, key):
            answer = client.generic(
                method.upper(),
                endpoint(name, method),
                b"{}",
                "application/json",
                secure=True,
                headers=headers,
            )
            assert_guarded(answer, name)
            assert "max-age=31536000" in answer["Strict-Transport-Security"], name


def test_without_https_there_is_only_the_way_to_it(client: Client, settings: Settings) -> None:
    insist_on_https(settings)
    for path in ("/admin/center/", "/api/v1/settings/flags", "/metrics", "/api/docs/"):
        answer = client.get(path)
        assert (answer.status_code, answer["Location"]) == (301, f"https://testserver{path}")


@pytest.mark.parametrize(
    "path", ["/nowhere", "/admin/nowhere/", "/api/v1/nowhere", "/admin/center/scopes/a/b/"]
)
def test_an_error_page_tells_nothing_of_the_inside(client: Client, settings: Settings, path: str) -> None:
    settings.DEBUG = False
    world()
    root(client)
    answer = client.get(path)
    assert answer.status_code == 404
    assert_guarded(answer, path)
    assert not re.search(rb"Traceback|Django/|Python/|site-packages|urlpatterns", answer.content)


# --- hosts, redirects, methods, parameters ---


@pytest.mark.slow
def test_a_made_up_host_is_a_400_everywhere_but_for_probes(settings: Settings) -> None:
    settings.DEBUG = False
    world()
    paths = [address(page) for page in PAGES] + [endpoint(*one) for one in API]
    for host in HOSTILE_HOSTS:
        # Every address with the first, and then the turns that a parser may take.
        for path in paths if host == HOSTILE_HOSTS[0] else paths[::20]:
            answer = Client().get(path, headers={"host": host})
            assert answer.status_code == 400 or path in PROBES, (path, host)
            assert b"evil" not in answer.content, (path, host)


def test_a_forwarded_host_is_not_believed(client: Client) -> None:
    for path in ("/", "/admin/", "/admin/center/"):
        answer = client.get(
            path, headers={"x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
        )
        assert "evil" not in answer.get("Location", "")


@pytest.mark.parametrize("target", ELSEWHERE)
def test_signing_in_leads_to_no_other_site(client: Client, target: str) -> None:
    User.objects.create_superuser("root", password="only for tests 1")
    form = {"username": "root", "password": "only for tests 1", "next": target}
    for query in ("", f"?{urlencode({'next': target})}"):
        answer = client.post(f"/admin/login/{query}", form)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/"), answer["Location"]
        assert not answer["Location"].startswith(("//", "/\\")), answer["Location"]
        assert "evil" not in answer["Location"]
        client.logout()


@pytest.mark.slow
def test_a_method_that_nobody_serves_is_refused() -> None:
    world()
    client, key = Client(), factories.key(tenants=())
    root(client)
    for method in ("TRACE", "PROPFIND", "MADEUP"):
        for name, known in API:
            answer = Client().generic(method, endpoint(name, known), headers=key)
            # No key approves anything, by whatever method.
            allowed = 403 if name == "change-request-approve" else 405
            assert answer.status_code == allowed, (name, method)
        for page in PAGES[:: 1 if method == "MADEUP" else 10]:
            assert client.generic(method, address(page)).status_code < 500, (page, method)


def _names(client: Client) -> set[str]:
    """What the Command Center's own forms and links send."""
    told = b"".join(
        client.get(address(f"center {name}")).content for name in CENTER if name != "center_audit_export"
    )
    return {name.decode() for name in re.findall(rb'name="([a-z_]+)"', told)} | {
        name.decode() for name in re.findall(rb"[?;&]([a-z_]+)=", told)
    }


@pytest.mark.slow
def test_no_parameters_of_the_command_center_break_a_page_or_come_back_as_markup() -> None:
    world()
    client = Client()
    root(client)
    names = sorted(_names(client) | {"page", "cursor", "q", "range", "version", "next"})
    assert {"tenant", "persona", "reason"} <= set(names)
    for center in CENTER:
        path = address(f"center {center}")
        for number, value in enumerate(HOSTILE_VALUES):
            # A third of the names at a time, each third with two of the values: one refusal hides fewer others.
            asked = dict.fromkeys(names[number % 3 :: 3], value)
            for answer in (client.get(path, asked), client.post(path, asked)):
                assert answer.status_code < 500, (path, value)
                assert "X-Injected" not in answer.headers
                if not answer.streaming:
                    assert b"<script>alert(1)" not in answer.content, path
