"""The door to a ClickHouse server: networks and servers that fail, and how soon that is told."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from telemetry.clickhouse import (
    ClickHouse,
    ClickHouseError,
    ClickHouseTimeout,
    ClickHouseUnavailable,
    connect,
)
from tests.services import ClickHouseServer, ServiceMissing, clickhouse_server, free_ports, wait_until
from tests.telemetry.engines import missing

CONNECT_TIMEOUT = 0.5


def door_to(port: int, options: str = "", **timeouts: float) -> ClickHouse:
    connect_timeout = timeouts.get("connect_timeout", CONNECT_TIMEOUT)
    url = f"clickhouse://127.0.0.1:{port}/default{options}"
    return connect(url, connect_timeout=connect_timeout, query_timeout=timeouts.get("query_timeout", 5.0))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@contextmanager
def silent_port(*, hang_up: bool = False) -> Iterator[int]:
    """A port that accepts connections and never answers, or hangs up at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if hang_up:
                    connection.close()
                else:
                    accepted.append(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in accepted:
            connection.close()


@contextmanager
def cutting_proxy(target: int, after_bytes: int) -> Iterator[int]:
    """A port that passes everything on, and cuts the line after so many bytes of the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with closing(client), socket.create_connection(("127.0.0.1", target)) as server:
                    upstream = threading.Thread(target=_pump, args=(client, server), daemon=True)
                    upstream.start()
                    _pump(server, client, after_bytes)
                    client.shutdown(socket.SHUT_RDWR)
                    upstream.join(5)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _pump(source: socket.socket, sink: socket.socket, most: int | None = None) -> None:
    passed = 0
    try:
        while most is None or passed < most:
            data = source.recv(65536 if most is None else min(65536, most - passed))
            if not data:
                return
            sink.sendall(data)
            passed += len(data)
    except OSError:
        return


@pytest.fixture
def own_server() -> Iterator[ClickHouseServer]:
    """A server that a test may stop."""
    try:
        with clickhouse_server() as server:
            yield server
    except ServiceMissing as reason:
        missing(reason)


def test_a_refused_connection_is_unavailable_at_once() -> None:
    door = door_to(free_ports(1)[0])
    with within(0.5), pytest.raises(ClickHouseUnavailable, match="refused"):
        door.query("SELECT 1")


def test_a_host_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(ClickHouseUnavailable):
        connect("clickhouse://no-such-host.invalid/default", connect_timeout=0.5).ping()


def test_a_server_that_accepts_and_never_answers_times_out_as_a_connection_does() -> None:
    with silent_port() as port:
        for call in (door_to(port).ping, door_to(port).version, door_to(port).ensure_database):
            with within(CONNECT_TIMEOUT + 0.5), pytest.raises(ClickHouseTimeout):
                call()


def test_a_server_that_hangs_up_is_unavailable() -> None:
    with silent_port(hang_up=True) as port, pytest.raises(ClickHouseUnavailable):
        door_to(port).ping()


def test_no_error_of_the_driver_escapes_and_passwords_stay_out_of_messages() -> None:
    door = connect(f"clickhouse://worker:hunter2@127.0.0.1:{free_ports(1)[0]}/default", connect_timeout=0.5)
    for call in (
        door.ping,
        door.version,
        door.ensure_database,
        lambda: door.execute("SELECT 1"),
        lambda: door.insert("t", ["v"], [(1,)]),
    ):
        with pytest.raises(ClickHouseError) as caught:
            call()
        assert "hunter2" not in str(caught.value)


@pytest.mark.services
def test_an_alternative_host_takes_over_from_one_that_refuses_hangs_up_or_is_silent(
    native_server: ClickHouseServer,
) -> None:
    options = f"?alt_hosts=127.0.0.1:{native_server.port}"
    [closed] = free_ports(1)
    with silent_port(hang_up=True) as hanging_up, silent_port() as silent:
        for port in (closed, hanging_up, silent):
            with within(CONNECT_TIMEOUT + 0.5):
                door_to(port, options).ping()


@pytest.mark.services
def test_an_answer_cut_in_the_middle_is_unavailable_never_half_a_result(
    native_server: ClickHouseServer,
) -> None:
    big = "SELECT number, toString(sipHash64(number)) AS h FROM system.numbers LIMIT 200000"
    with (
        cutting_proxy(native_server.port, after_bytes=500_000) as port,
        within(3),
        pytest.raises(ClickHouseUnavailable),
    ):
        door_to(port).query(big)


@pytest.mark.services
def test_a_connection_is_not_used_again_after_an_error(native_server: ClickHouseServer) -> None:
    door = door_to(native_server.port)
    for _ in range(3):
        with pytest.raises(ClickHouseTimeout):
            door.query("SELECT count() FROM system.numbers WHERE NOT ignore(number)", timeout=0.1)
        assert door.query("SELECT 42 AS x") == [{"x": 42}]


@pytest.mark.services
def test_a_stopped_server_is_unavailable_and_usable_again_after_its_restart(
    own_server: ClickHouseServer,
) -> None:
    door = door_to(own_server.port)
    door.ping()
    own_server.server.kill()
    with within(1), pytest.raises(ClickHouseUnavailable):
        door.ping()
    own_server.server.start()
    door.ping()
    assert door.query("SELECT 1 AS x") == [{"x": 1}]


@pytest.mark.services
def test_a_server_that_freezes_times_out_and_is_usable_again_when_it_thaws(
    own_server: ClickHouseServer,
) -> None:
    door = door_to(own_server.port, query_timeout=0.5)
    door.ping()
    own_server.server.pause()
    with within(2.5), pytest.raises(ClickHouseUnavailable):
        door.ping()
    own_server.server.resume()
    wait_until(lambda: _answers(door), "an answer", timeout=5)


def _answers(door: ClickHouse) -> bool:
    try:
        door.ping()
    except ClickHouseUnavailable:
        return False
    return True


@pytest.mark.services
def test_threads_beyond_the_pool_wait_and_then_are_told_that_it_is_busy(
    native_server: ClickHouseServer,
) -> None:
    door = connect(native_server.url("default"), connect_timeout=0.2, query_timeout=5, pool_size=2)
    with ThreadPoolExecutor(2) as busy:
        slow = [busy.submit(door.query, "SELECT sleep(2) AS x") for _ in range(2)]
        wait_until(lambda: _processes(native_server) >= 3, "two slow queries and the one that counts them")
        with within(1), pytest.raises(ClickHouseUnavailable, match="busy"):
            door.ping()
        assert [future.result() for future in slow] == [[{"x": 0}]] * 2
    door.ping()


@pytest.mark.services
def test_no_more_connections_are_opened_than_the_pool_allows(native_server: ClickHouseServer) -> None:
    door = connect(native_server.url("default"), pool_size=2)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: door.ping(), range(200)))
    before = _lasting_connections(native_server)
    door.close()
    assert 1 <= before - _lasting_connections(native_server) <= 2


def _lasting_connections(server: ClickHouseServer) -> int:
    """The server counts one that was closed a little longer."""
    found = []
    for _ in range(20):
        found.append(_connections(server))
        time.sleep(0.05)
    return min(found)


def _processes(server: ClickHouseServer) -> int:
    with closing(connect(server.url("default"))) as door:
        [row] = door.query("SELECT count() AS n FROM system.processes")
    return int(row["n"])


def _connections(server: ClickHouseServer) -> int:
    with closing(connect(server.url("default"))) as door:
        [row] = door.query("SELECT value FROM system.metrics WHERE metric = 'TCPConnection'")
    return int(row["value"])


@pytest.mark.services
def test_a_forked_child_gets_connections_of_its_own(native_server: ClickHouseServer) -> None:
    door = door_to(native_server.port)
    door.ping()
    child = os.fork()
    if child == 0:
        try:
            good = door.query("SELECT 7 AS x") == [{"x": 7}]
            door.close()
        finally:
            os._exit(0 if good else 1)
    assert door.query("SELECT 8 AS x") == [{"x": 8}]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert door.query("SELECT 9 AS x") == [{"x": 9}]
