"""Who asks, when a proxy stands in between: `X-Forwarded-For`, believed only of proxies that are trusted."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest, HttpResponse

Address = IPv4Address | IPv6Address


class TrustedProxies:
    """Puts the client's own address where everything looks for it (``REMOTE_ADDR``: lockouts, the audit log)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._trusted = [ip_network(network) for network in settings.TRUSTED_PROXIES]

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if self._trusted:
            peer, told = request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", "")
            request.META["REMOTE_ADDR"] = client_address(peer, told, self._trusted)
        return self._get_response(request)


def client_address(peer: str, forwarded: str, trusted: Iterable[IPv4Network | IPv6Network]) -> str:
    """The nearest address that is no trusted proxy's. Each proxy adds whom it heard to the right end of
    ``forwarded``, so what stands left of the first stranger is only what the stranger says."""
    networks = list(trusted)
    address = parse(peer)
    if address is None:
        return peer
    for hop in reversed(forwarded.split(",")):
        if not any(address in network for network in networks):
            break
        nearer = parse(hop)
        if nearer is None:
            break
        address = nearer
    return str(address)


def parse(text: str) -> Address | None:
    """An address, with or without a port; None when it is none. IPv4 within IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
