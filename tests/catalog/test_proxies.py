"""X-Forwarded-For is believed of trusted proxies only, and the audit log sees what it tells."""

from ipaddress import ip_network

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django.fixtures import Settings

from catalog.proxies import TrustedProxies, client_address
from overrides.audit import Actor

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        # A stranger says what it likes.
        ("203.0.113.5", "198.51.100.9", "203.0.113.5"),
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        # What the client itself put there stands to the left of what the proxy added.
        ("10.0.0.1", "1.1.1.1, 198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "198.51.100.9:4711", "198.51.100.9"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.9", "198.51.100.9"),
        # Nothing, or nonsense: as far as can be known.
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.9, ' OR 1=1 --", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("", "198.51.100.9", ""),
    ],
)
def test_the_nearest_address_that_is_no_trusted_proxys_is_the_clients(
    peer: str, forwarded: str, client: str
) -> None:
    assert client_address(peer, forwarded, TRUSTED) == client


def source_of(request: HttpRequest) -> str:
    seen = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(Actor.asking("user:me", "admin", request).source_ip)
        return HttpResponse()

    TrustedProxies(view)(request)
    return seen[0]


def test_the_audit_log_tells_the_clients_own_address_if_the_proxy_is_trusted(settings: Settings) -> None:
    def request() -> HttpRequest:
        return RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="198.51.100.9")

    assert source_of(request()) == "10.0.0.1"
    settings.TRUSTED_PROXIES = ("10.0.0.0/8",)
    assert source_of(request()) == "198.51.100.9"
