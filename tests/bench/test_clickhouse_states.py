"""The bench of ClickHouse's states: ratios are of one round, and a run in a wrong state is told, not measured."""

from collections.abc import Iterator

import pytest

from bench import clickhouse_states
from bench.clickhouse_states import STATES, Found, WrongState, contradiction, main, ratios, table, told
from bench.loadgen import Load

ON, OFF, STALE = STATES


def found(
    state: str, number: int, p50_us: float, p99_us: float, reason: str = "ranked", lost: int = 0
) -> Found:
    load = Load(rps=1000, p50_us=p50_us, p99_us=p99_us, requests=100, errors=0)
    return Found(state, number, reason, load, lost)


def test_a_ratio_is_of_two_runs_of_the_same_round() -> None:
    runs = [
        found("on", 0, 1000, 4000), found("off", 0, 1100, 4000), found("stale", 0, 500, 1000, "telemetry_stale"),
        found("on", 1, 2000, 8000), found("off", 1, 1800, 8000), found("stale", 1, 1500, 4000, "telemetry_stale"),
        found("on", 2, 4000, 9000), found("off", 2, 4000, 18000),
    ]  # fmt: skip
    assert ratios(runs) == [
        "off/on    p50 1.00 (0.90 to 1.10) x  p99 1.00 (1.00 to 2.00) x",
        "stale/on  p50 0.62 (0.50 to 0.75) x  p99 0.38 (0.25 to 0.50) x",
    ]


def test_a_round_that_ended_before_its_second_state_has_no_ratio() -> None:
    assert ratios([found("on", 0, 1000, 4000), found("off", 1, 1000, 4000)]) == []


def test_the_table_gives_each_state_with_its_reasons() -> None:
    runs = [found("on", 0, 1000, 4000), found("on", 1, 3000, 6000, "sticky")]
    runs += [found("stale", 0, 900, 2000, "telemetry_stale")]
    assert table(runs) == [
        "on        p50 2.00 (1.00 to 3.00) ms  p99 5.00 (4.00 to 6.00) ms  reason ranked, sticky",
        "stale     p50 0.90 (0.90 to 0.90) ms  p99 2.00 (2.00 to 2.00) ms  reason telemetry_stale",
    ]
    assert "round 1  stale  p50    0.90 ms  p99    2.00 ms" in told(runs[-1])


@pytest.mark.parametrize(
    ("state", "reason", "reads"),
    [(ON, "ranked", True), (OFF, "ranked", False), (STALE, "telemetry_stale", True)],
)
def test_each_state_is_known_by_its_reason_and_by_what_the_web_server_reads(
    state: clickhouse_states.State, reason: str, reads: bool
) -> None:
    assert contradiction(state, reason, reads=reads) is None
    other = "ranked" if reason == "telemetry_stale" else "telemetry_stale"
    assert contradiction(state, other, reads=reads) == f"{state.name}: an answer's reason is {other}"
    assert "ClickHouse" in (contradiction(state, reason, reads=not reads) or "")


def test_a_wrong_state_or_a_lost_decision_fails_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def strays(_: object) -> Iterator[Found]:
        yield found("on", 0, 1000, 4000)
        raise WrongState("off: the web server reads ClickHouse")

    monkeypatch.setattr(clickhouse_states, "measure", strays)
    assert main([]) == 1
    output = capsys.readouterr()
    assert "NOT MEASURED: off: the web server reads ClickHouse" in output.err
    assert "median" not in output.out
    for lost, code in ((0, 0), (1, 1)):
        runs = [found("on", 0, 1000, 4000), found("off", 0, 1000, 4000, lost=lost)]
        monkeypatch.setattr(clickhouse_states, "measure", lambda _, runs=runs: iter(runs))
        assert main(["--connections", "8"]) == code
        assert "c=8, median" in capsys.readouterr().out
