"""The door to ClickHouse: what holds on every engine alike."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry.clickhouse import (
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    ClickHouse,
    ClickHouseError,
    ClickHouseQueryError,
    ClickHouseTimeout,
    ClickHouseUnavailable,
    connect,
)
from tests.telemetry.engines import is_embedded

ID = uuid.UUID("6d3c2a5e-7d0a-4d3b-8a55-0c8d4a7b5a11")
NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)

BIG = Decimal("12345678901234567890123456789.123456789")
NASTY = 'it\'s "quoted" \\ and \n\t\0 %(x)s %% {x:String} é 漢 😀'

# Column type, a value to insert, and the value that must come back, on every engine.
ROUND_TRIPS: list[tuple[str, object, object]] = [
    ("UInt8", 255, 255),
    ("UInt32", 2**32 - 1, 2**32 - 1),
    ("UInt64", 2**64 - 1, 2**64 - 1),
    ("Int64", -(2**63), -(2**63)),
    ("Float64", 1.5, 1.5),
    ("String", "", ""),
    ("String", NASTY, NASTY),
    ("String", "'); DROP TABLE t; --", "'); DROP TABLE t; --"),
    ("Nullable(String)", None, None),
    ("Nullable(String)", "NULL", "NULL"),
    ("Nullable(UInt32)", None, None),
    ("Enum8('reported' = 1, 'derived' = 2)", "derived", "derived"),
    ("UUID", ID, ID),
    ("Nullable(UUID)", None, None),
    ("Nullable(UUID)", ID, ID),
    ("Date", date(2024, 2, 29), date(2024, 2, 29)),
    ("DateTime('UTC')", NOON, NOON),
    ("DateTime('UTC')", NOON.astimezone(timezone(timedelta(hours=5, minutes=30))), NOON),
    ("DateTime('UTC')", NOON + timedelta(microseconds=999_999), NOON),
    ("DateTime('Europe/Paris')", NOON, NOON),
    ("Nullable(DateTime('UTC'))", None, None),
    ("Decimal(18, 9)", Decimal("0.000000001"), Decimal("0.000000001")),
    ("Decimal(18, 9)", Decimal("-123456789.987654321"), Decimal("-123456789.987654321")),
    ("Decimal(18, 9)", Decimal("1E-9"), Decimal("1E-9")),
    ("Nullable(Decimal(18, 9))", None, None),
    ("Nullable(Decimal(9, 6))", Decimal("0.95"), Decimal("0.95")),
    ("Decimal(38, 9)", BIG, BIG),
    ("Array(UInt64)", (0, 1, 2**64 - 1), (0, 1, 2**64 - 1)),
    ("Array(UInt64)", [], ()),
    ("Array(String)", ("it's", "b"), ("it's", "b")),
    ("Array(Nullable(DateTime('UTC')))", (NOON, None), (NOON, None)),
]


def scratch(clickhouse: ClickHouse, column_type: str) -> None:
    clickhouse.execute("DROP TABLE IF EXISTS t")
    clickhouse.execute(f"CREATE TABLE t (n UInt32, v {column_type}) ENGINE = MergeTree ORDER BY n")


def test_values_of_every_type_come_back_as_the_same_python_objects(empty_clickhouse: ClickHouse) -> None:
    for column_type, inserted, expected in ROUND_TRIPS:
        scratch(empty_clickhouse, column_type)
        empty_clickhouse.insert("t", ["n", "v"], [(1, inserted)])
        [row] = empty_clickhouse.query("SELECT v FROM t")
        assert (column_type, row["v"], type(row["v"])) == (column_type, expected, type(expected))
        if isinstance(expected, datetime):
            assert row["v"].tzinfo is UTC


def test_bound_values_select_what_was_inserted(empty_clickhouse: ClickHouse) -> None:
    cast = {Decimal: "toDecimal128(%(v)s, 9)", datetime: "toDateTime(%(v)s, 'UTC')", date: "toDate(%(v)s)"}
    for column_type, inserted, expected in ROUND_TRIPS:
        if inserted is None or isinstance(inserted, list | tuple):
            continue
        scratch(empty_clickhouse, column_type)
        empty_clickhouse.insert("t", ["n", "v"], [(1, inserted)])
        column = "toString(v)" if isinstance(inserted, uuid.UUID) else "v"
        sql = f"SELECT v FROM t WHERE {column} = {cast.get(type(inserted), '%(v)s')}"
        assert empty_clickhouse.query(sql, {"v": inserted}) == [{"v": expected}], column_type


def test_lists_bind_as_arrays_and_tuples_as_sets(empty_clickhouse: ClickHouse) -> None:
    [row] = empty_clickhouse.query(
        "SELECT %(array)s AS a, 2 IN %(set)s AS yes, 'x' IN %(words)s AS no",
        {"array": ["a", "it's"], "set": (1, 2), "words": ("y", "z")},
    )
    assert row == {"a": ("a", "it's"), "yes": 1, "no": 0}


def test_booleans_bind_as_numbers(empty_clickhouse: ClickHouse) -> None:
    assert empty_clickhouse.query("SELECT 1 AS x WHERE 1 = %(yes)s", {"yes": True}) == [{"x": 1}]


@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_can_break_out_of_its_placeholder(empty_clickhouse: ClickHouse, text: str) -> None:
    [row] = empty_clickhouse.query("SELECT %(text)s AS text, '100%%' AS rest", {"text": text})
    assert row == {"text": text, "rest": "100%"}


def test_a_statement_without_parameters_may_contain_percent_signs(empty_clickhouse: ClickHouse) -> None:
    assert empty_clickhouse.query("SELECT 7 % 4 AS x, 'a%s' AS y") == [{"x": 3, "y": "a%s"}]


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("SELECT %(missing)s", {"other": 1}),
        ("SELECT %(x)s", {"x": object()}),
        ("SELECT %(x)s", {"x": b"bytes"}),
        ("SELECT toDateTime(%(x)s, 'UTC')", {"x": datetime(2024, 1, 1)}),  # noqa: DTZ001 - it is naive
        ("SELECT %s", {"x": 1, "y": 2}),
    ],
)
def test_parameters_that_cannot_be_bound_are_a_value_error(sql: str, params: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        connect("clickhouse://localhost:1/never_reached").query(sql, params)


def test_a_query_without_rows_gives_an_empty_list(empty_clickhouse: ClickHouse) -> None:
    assert empty_clickhouse.query("SELECT 1 AS x WHERE 0") == []


def test_inserting_no_rows_does_nothing(empty_clickhouse: ClickHouse) -> None:
    empty_clickhouse.insert("no_such_table", ["v"], [])


REFUSED: list[tuple[str, tuple[object, ...]]] = [
    ("UInt8", (1, 256)),
    ("UInt8", (1, -1)),
    ("UInt8", (1, None)),
    ("UInt8", (1, "x")),
    ("Array(UInt64)", (1, (1, None))),
    ("String", (1, "lone surrogate \ud800")),
    ("Decimal(18, 9)", (1, Decimal("NaN"))),
    ("DateTime('UTC')", (1, datetime(2024, 1, 1))),  # noqa: DTZ001 - it is naive
    ("String", (1,)),
    ("String", (1, "a", "b")),
]


def test_a_row_that_does_not_fit_is_refused_and_nothing_of_its_block_is_stored(
    empty_clickhouse: ClickHouse,
) -> None:
    for column_type, row in REFUSED:
        scratch(empty_clickhouse, column_type)
        with pytest.raises(ClickHouseQueryError):
            empty_clickhouse.insert("t", ["n", "v"], [row])
        assert empty_clickhouse.query("SELECT count() AS n FROM t") == [{"n": 0}], (column_type, row)


@pytest.mark.parametrize("sql", ["SELECT nope", "SELECT FROM WHERE", "SELECT 1; SELECT 2"])
def test_bad_sql_is_refused_with_a_short_message(empty_clickhouse: ClickHouse, sql: str) -> None:
    with pytest.raises(ClickHouseQueryError) as caught:
        empty_clickhouse.query(sql)
    assert "Stack trace" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_an_unknown_table_is_told_by_its_code(empty_clickhouse: ClickHouse) -> None:
    with pytest.raises(ClickHouseQueryError) as caught:
        empty_clickhouse.query("SELECT * FROM nope")
    assert caught.value.code == UNKNOWN_TABLE
    with pytest.raises(ClickHouseQueryError) as caught:
        empty_clickhouse.insert("nope", ["v"], [(1,)])
    assert caught.value.code == UNKNOWN_TABLE


def test_an_unknown_database_is_told_by_its_code_and_can_be_created(clickhouse_url: str) -> None:
    door = connect(clickhouse_url)
    try:
        with pytest.raises(ClickHouseQueryError) as caught:
            door.ping()
        assert caught.value.code == UNKNOWN_DATABASE
        assert door.version() >= (18, 16)
        door.ensure_database()
        door.ensure_database()
        door.ping()
        door.execute(f"DROP DATABASE {door.database}")
    finally:
        door.close()


def test_a_name_cannot_smuggle_sql_into_an_insert(empty_clickhouse: ClickHouse) -> None:
    for table, column in [("t; DROP TABLE t", "v"), ("t", "v) VALUES (1) --")]:
        with pytest.raises(ValueError, match="letters, digits"):
            empty_clickhouse.insert(table, [column], [(1,)])


def test_after_an_error_the_next_answer_is_whole_and_its_own(empty_clickhouse: ClickHouse) -> None:
    # chDB prints what a failed query had left into the next answer of the same session.
    for _ in range(3):
        with pytest.raises(ClickHouseError):
            empty_clickhouse.query(
                "SELECT number, throwIf(number = 500000) FROM system.numbers LIMIT 1000000"
            )
        assert empty_clickhouse.query("SELECT 42 AS x") == [{"x": 42}]


def test_a_query_that_takes_too_long_is_a_timeout(empty_clickhouse: ClickHouse) -> None:
    started = datetime.now(UTC)
    with pytest.raises(ClickHouseTimeout):
        empty_clickhouse.query("SELECT count() FROM system.numbers WHERE NOT ignore(number)", timeout=0.3)
    assert datetime.now(UTC) - started < timedelta(seconds=1.5)
    assert issubclass(ClickHouseTimeout, ClickHouseUnavailable)
    assert empty_clickhouse.query("SELECT 1 AS x") == [{"x": 1}]


def test_eight_threads_each_get_their_own_answers(empty_clickhouse: ClickHouse) -> None:
    ready = threading.Barrier(8)

    def ask(thread: int) -> bool:
        ready.wait(10)
        return all(
            empty_clickhouse.query(
                "SELECT %(x)s AS x, sum(number) AS s FROM numbers(1000)", {"x": f"{thread}-{n}"}
            )
            == [{"x": f"{thread}-{n}", "s": 499500}]
            for n in range(30)
        )

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == [True] * 8


def test_eight_threads_insert_every_row_once(empty_clickhouse: ClickHouse) -> None:
    scratch(empty_clickhouse, "String")

    def insert(thread: int) -> None:
        for block in range(5):
            rows = [(thread * 1000 + block * 100 + n, "x") for n in range(100)]
            empty_clickhouse.insert("t", ["n", "v"], rows)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(insert, range(8)))
    assert empty_clickhouse.query("SELECT count() AS rows, uniqExact(n) AS distinct FROM t") == [
        {"rows": 4000, "distinct": 4000}
    ]


def test_a_streamed_answer_has_the_same_rows_in_pieces(empty_clickhouse: ClickHouse) -> None:
    scratch(empty_clickhouse, "Nullable(Decimal(18, 9))")
    rows = [(n, Decimal(n) / 4 if n % 3 else None) for n in range(30_000)]
    empty_clickhouse.insert("t", ["n", "v"], rows)
    sql = "SELECT n, v FROM t WHERE n >= %(from)s"
    pieces = list(empty_clickhouse.stream(sql, {"from": 0}, timeout=30))
    assert sorted(row for piece in pieces for row in piece) == rows
    assert list(empty_clickhouse.stream(sql, {"from": 30_000}, timeout=30)) == []


def test_a_stream_that_fails_or_is_left_midway_harms_no_later_question(empty_clickhouse: ClickHouse) -> None:
    numbers = "SELECT number FROM numbers(200000)"
    for _ in empty_clickhouse.stream(numbers, timeout=30):
        break
    assert empty_clickhouse.query("SELECT 1 AS x") == [{"x": 1}]
    with pytest.raises(ClickHouseQueryError):
        list(empty_clickhouse.stream("SELECT throwIf(number = 150000) FROM numbers(200000)", timeout=30))
    assert empty_clickhouse.query("SELECT 2 AS x") == [{"x": 2}]


def test_a_closed_door_opens_again_by_itself(empty_clickhouse: ClickHouse) -> None:
    empty_clickhouse.ping()
    empty_clickhouse.close()
    empty_clickhouse.ping()


def test_dates_and_times_do_not_depend_on_a_servers_zone(empty_clickhouse: ClickHouse) -> None:
    [row] = empty_clickhouse.query(
        "SELECT toDateTime(%(t)s, 'UTC') AS utc, toDateTime(%(t)s, 'UTC') = toDateTime(%(s)s, 'UTC') AS same",
        {"t": NOON.astimezone(timezone(timedelta(hours=-7))), "s": NOON},
    )
    assert row == {"utc": NOON, "same": 1}


def test_the_engine_is_one_of_the_two_that_bracket_what_users_run(empty_clickhouse: ClickHouse) -> None:
    assert (empty_clickhouse.version() >= (20, 1)) == is_embedded(empty_clickhouse)
