"""The only door to ClickHouse: one interface, a server or the embedded engine behind it.

Nothing else in the project imports an engine or its driver.
"""

import os
import threading

from telemetry.clickhouse.embedded import EmbeddedClickHouse
from telemetry.clickhouse.errors import (
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    ClickHouseError,
    ClickHouseQueryError,
    ClickHouseTimeout,
    ClickHouseUnavailable,
)
from telemetry.clickhouse.interface import ClickHouse, NativeAddress, identifier, parse_url
from telemetry.clickhouse.native import NativeClickHouse

__all__ = [
    "UNKNOWN_DATABASE",
    "UNKNOWN_TABLE",
    "ClickHouse",
    "ClickHouseError",
    "ClickHouseQueryError",
    "ClickHouseTimeout",
    "ClickHouseUnavailable",
    "close_clickhouse",
    "connect",
    "get_clickhouse",
]

_Config = tuple[str, str, float, float, int]
_lock = threading.Lock()
_shared: tuple[int, _Config, ClickHouse] | None = None


def connect(
    url: str,
    *,
    cluster: str | None = None,
    connect_timeout: float = 1.0,
    query_timeout: float = 10.0,
    pool_size: int = 8,
) -> ClickHouse:
    """A door to the ClickHouse at ``url``; nothing is opened before its first call.

    ``clickhouse://[user[:password]@]host[:9000]/database[?alt_hosts=host:port,...]`` is a server,
    ``chdb:///absolute/path[?database=selection]`` the embedded engine. Timeouts are seconds. ValueError
    for a malformed URL or cluster name.
    """
    address = parse_url(url)
    if cluster:
        identifier(cluster, "ClickHouse cluster")
    if isinstance(address, NativeAddress):
        return NativeClickHouse(
            address,
            cluster=cluster or None,
            connect_timeout=connect_timeout,
            query_timeout=query_timeout,
            pool_size=pool_size,
        )
    if cluster:
        raise ValueError("ClickHouse cluster: the embedded engine cannot be part of one")
    return EmbeddedClickHouse(address, query_timeout=query_timeout)


def get_clickhouse() -> ClickHouse:
    """This process's door, by the Django settings. Opened anew after a fork or a change of settings."""
    from django.conf import settings

    global _shared
    config = (
        settings.CLICKHOUSE_URL,
        settings.CLICKHOUSE_CLUSTER,
        settings.CLICKHOUSE_CONNECT_TIMEOUT,
        settings.CLICKHOUSE_QUERY_TIMEOUT,
        settings.CLICKHOUSE_POOL_SIZE,
    )
    shared = _shared
    if shared is not None and shared[:2] == (os.getpid(), config):
        return shared[2]
    with _lock:
        if _shared is None or _shared[:2] != (os.getpid(), config):
            if _shared is not None:
                _shared[2].close()
            url, cluster, connect_timeout, query_timeout, pool_size = config
            door = connect(
                url,
                cluster=cluster,
                connect_timeout=connect_timeout,
                query_timeout=query_timeout,
                pool_size=pool_size,
            )
            _shared = (os.getpid(), config, door)
        return _shared[2]


def close_clickhouse() -> None:
    """Close this process's door, if it has one; the next ``get_clickhouse`` opens another."""
    global _shared
    with _lock:
        if _shared is not None:
            _shared[2].close()
            _shared = None


def _new_lock_after_fork() -> None:
    # Another thread of the parent may have held it, and would never release it here.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_new_lock_after_fork)
