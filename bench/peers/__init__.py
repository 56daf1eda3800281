"""Peers of this product, installed apart and measured beside it: `python -m bench.peers`.

``peers(names)`` gives what can be measured; each is ``running()`` as a context manager and then asked by ``run_round``.
Nothing here is a dependency: every peer has an environment of its own below var/bench/peers.
"""

from collections.abc import Iterable

from bench.loadgen import Load
from bench.peers.base import Peer, PeerMissing, Up
from bench.peers.gateways import GATEWAYS
from bench.peers.unleash import UNLEASH

__all__ = ["ALL", "Load", "Peer", "PeerMissing", "Up", "peers", "run_round"]

ALL: tuple[Peer, ...] = (*GATEWAYS, *UNLEASH)


def peers(names: Iterable[str] = ()) -> list[Peer]:
    """These peers, or all; KeyError names one that there is not."""
    known = {peer.name: peer for peer in ALL}
    return [known[name] for name in names] or list(ALL)


def run_round(up: Up, connections: int, seconds: float) -> Load:
    """Ask a running peer for so long. What runs in process has no connections: there they are calls one by one.
    ``cpu_us`` is that of the peer, then that of what it stands on (upstream, database)."""
    return up.ask(connections, seconds)
