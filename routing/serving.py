"""The policy bundle as workers fetch it: per set of tenants, built and packed once per version and process."""

import gzip
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import orjson

from routing.engine import Bundle, canonical_json

#: Bytes that the bundles of all sets of tenants may take together; of what is beyond the oldest goes.
_KEPT = 64_000_000
_OVERRIDES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle's bytes, plain and gzipped, and its strong ETag (with quotes)."""

    body: bytes
    gzipped: bytes
    etag: str

    @property
    def size(self) -> int:
        return len(self.body) + len(self.gzipped)


class PolicyServer:
    """Of many callers at once one builds, and the others wait for what it built: no stampede."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._version = ""
        self._served: OrderedDict[tuple[str, frozenset[str] | None], Served] = OrderedDict()
        self._size = 0
        self.built = 0

    def serve(self, bundle: Bundle, tenants: frozenset[str] | None) -> Served:
        """The bundle as these tenants (None: all) may see it."""
        key = (bundle.version, tenants)
        served = self._served.get(key)
        if served is not None:
            return served
        with self._lock:
            served = self._served.get(key)
            if served is None:
                served = _pack(bundle.for_tenants(tenants))
                self.built += 1
                self._keep(key, served)
            return served

    def _keep(self, key: tuple[str, frozenset[str] | None], served: Served) -> None:
        if key[0] != self._version:
            # Nobody asks for a version that is past.
            self._served.clear()
            self._version, self._size = key[0], 0
        self._served[key] = served
        self._size += served.size
        while self._size > self._kept and len(self._served) > 1:
            self._size -= self._served.popitem(last=False)[1].size

    def forget(self) -> None:
        """Drop what is kept (a test's database is rolled back, and versions repeat)."""
        with self._lock:
            self._served.clear()
            self._size = 0


def _pack(bundle: Bundle) -> Served:
    body = _json(bundle)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # mtime 0: the same bundle gives the same bytes in every process.
    return Served(body, gzip.compress(body, 5, mtime=0), etag)


def _json(bundle: Bundle) -> bytes:
    """Canonical JSON of the bundle. Overrides some at a time: all of them in one go would keep every other thread
    waiting, selections too."""
    overrides = bundle.standing.overrides
    told = replace(bundle, standing=replace(bundle.standing, overrides=())).to_dict()
    pieces = [
        canonical_json([override.to_dict() for override in overrides[start : start + _OVERRIDES_AT_ONCE]])
        for start in range(0, len(overrides), _OVERRIDES_AT_ONCE)
    ]
    told["standing"]["overrides"] = orjson.Fragment(b"[" + b",".join(piece[1:-1] for piece in pieces) + b"]")
    return canonical_json(told)


policy_server = PolicyServer()
