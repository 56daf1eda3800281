"""Addresses of ClickHouse, and the one door that a process has by its settings."""

import os

import pytest
from pytest_django import Settings

from telemetry.clickhouse import close_clickhouse, connect, get_clickhouse
from telemetry.clickhouse.errors import (
    ClickHouseQueryError,
    ClickHouseTimeout,
    ClickHouseUnavailable,
    refusal,
)
from telemetry.clickhouse.interface import EmbeddedAddress, NativeAddress, parse_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("clickhouse://ch/selection", NativeAddress("ch", 9000, "default", "", "selection", None)),
        (
            "clickhouse://worker:p%40ss%2Fword@ch.example:9440/db_1?alt_hosts=ch2:9001,ch3",
            NativeAddress("ch.example", 9440, "worker", "p@ss/word", "db_1", "ch2:9001,ch3"),
        ),
        ("chdb:///var/lib/selection", EmbeddedAddress("/var/lib/selection", "selection")),
        ("chdb:///a%20b/c?database=other", EmbeddedAddress("/a b/c", "other")),
    ],
)
def test_an_address_is_read(url: str, address: NativeAddress | EmbeddedAddress) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "scheme"),
        ("http://ch:8123/selection", "scheme 'http'"),
        ("clickhouse:///selection", "needs a host"),
        ("clickhouse://ch", "database"),
        ("clickhouse://ch/", "database"),
        ("clickhouse://ch/drop table", "database"),
        ("clickhouse://ch/1st", "database"),
        ("clickhouse://ch:port/db", "port"),
        ("clickhouse://ch:99999/db", "port"),
        ("clickhouse://ch/db?althosts=x", "unknown option althosts"),
        ("clickhouse://ch/db?alt_hosts=a b", "alt_hosts"),
        ("clickhouse://ch/db?alt_hosts", "name=value"),
        ("chdb://relative/path", "absolute path"),
        ("chdb://", "absolute path"),
        ("chdb:///", "absolute path"),
        ("chdb:///x?database=a;b", "database"),
    ],
)
def test_a_malformed_address_is_refused_and_says_why(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        connect(url)


def test_a_refused_address_does_not_show_its_password() -> None:
    with pytest.raises(ValueError, match="unknown option") as caught:
        connect("clickhouse://worker:hunter2@ch/db?nope=1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("cluster", ["my cluster", "a;b", "1"])
def test_a_cluster_name_that_could_be_sql_is_refused(cluster: str) -> None:
    with pytest.raises(ValueError, match="cluster"):
        connect("clickhouse://ch/db", cluster=cluster)


def test_the_embedded_engine_has_no_cluster() -> None:
    with pytest.raises(ValueError, match="embedded"):
        connect("chdb:///x", cluster="c")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (159, ClickHouseTimeout),  # TIMEOUT_EXCEEDED
        (210, ClickHouseUnavailable),  # NETWORK_ERROR
        (242, ClickHouseUnavailable),  # TABLE_IS_READ_ONLY, as replicas are without ZooKeeper
        (252, ClickHouseUnavailable),  # TOO_MANY_PARTS
        (241, ClickHouseUnavailable),  # MEMORY_LIMIT_EXCEEDED
        (516, ClickHouseUnavailable),  # AUTHENTICATION_FAILED
        (60, ClickHouseQueryError),  # UNKNOWN_TABLE
        (62, ClickHouseQueryError),  # SYNTAX_ERROR
        (None, ClickHouseQueryError),
    ],
)
def test_refusals_that_pass_are_told_from_those_that_do_not(code: int | None, kind: type[Exception]) -> None:
    error = refusal("DB::Exception: Something. Stack trace:\n\n0. clickhouse", code)
    assert type(error) is kind
    assert str(error).startswith("Something.")
    assert "Stack" not in str(error)


def test_a_process_has_one_door_until_its_settings_change(settings: Settings) -> None:
    settings.CLICKHOUSE_URL = "clickhouse://ch/one"
    try:
        first = get_clickhouse()
        assert get_clickhouse() is first
        settings.CLICKHOUSE_URL = "clickhouse://ch/two"
        settings.CLICKHOUSE_CLUSTER = "prod"
        second = get_clickhouse()
        assert (second.database, second.cluster) == ("two", "prod")
        close_clickhouse()
        assert get_clickhouse() is not second
    finally:
        close_clickhouse()


def test_a_forked_process_has_a_door_of_its_own(settings: Settings) -> None:
    settings.CLICKHOUSE_URL = "clickhouse://ch/one"
    try:
        before = get_clickhouse()
        child = os.fork()
        if child == 0:
            os._exit(0 if get_clickhouse() is not before else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert get_clickhouse() is before
    finally:
        close_clickhouse()
