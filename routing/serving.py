"""The policy bundle as workers fetch it: per set of tenants, built and packed once per version and process."""

import gzip
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from routing.engine import Bundle, canonical_json

#: Sets of tenants whose bundles are kept; keys mostly share a few.
_KEPT = 16


@dataclass(frozen=True, slots=True)
class Served:
    """A bundle's bytes, plain and gzipped, and its strong ETag (with quotes)."""

    body: bytes
    gzipped: bytes
    etag: str


class PolicyServer:
    """Of many callers at once one builds, and the others wait for what it built: no stampede."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: OrderedDict[tuple[str, frozenset[str] | None], Served] = OrderedDict()
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
                served = self._served[key] = _pack(bundle.for_tenants(tenants))
                self.built += 1
                while len(self._served) > _KEPT:
                    self._served.popitem(last=False)
            return served

    def forget(self) -> None:
        """Drop what is kept (a test's database is rolled back, and versions repeat)."""
        with self._lock:
            self._served.clear()


def _pack(bundle: Bundle) -> Served:
    body = canonical_json(bundle.to_dict())
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # mtime 0: the same bundle gives the same bytes in every process.
    return Served(body, gzip.compress(body, 5, mtime=0), etag)


policy_server = PolicyServer()
