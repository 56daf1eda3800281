"""What the benches of the endpoint print: medians, ratios of the same round, and what is short of its target."""

import pytest

from bench.beside import Found, ratios, table
from bench.loadgen import Load, parse
from bench.ours import CALLED
from bench.peers import run_round
from bench.serving import spread


def load(rps: float) -> Load:
    return Load(rps=rps, p50_us=2000, p99_us=9000, requests=100, errors=0, cpu_us=(100.0, 50.0))


def test_a_spread_is_the_median_with_the_lowest_and_the_highest() -> None:
    assert spread([3, 1, 2]) == "2 (1 to 3)"
    assert spread([1.26], 1) == "1.3 (1.3 to 1.3)"


def test_ratios_are_of_the_same_round() -> None:
    found = [Found("write-behind", 16, n, load(rps)) for n, rps in enumerate((1000, 3000, 5000))]
    found += [Found("tensorzero", 16, n, load(rps)) for n, rps in enumerate((500, 1000, 1000))]
    [line] = ratios(found)
    assert (
        line == "write-behind           over tensorzero             c=16  3.0 (2.0 to 5.0) x  target 2.5: met"
    )


def test_what_is_called_in_process_is_compared_with_what_is_called_in_process() -> None:
    found = [
        Found("our engine", 0, 0, load(3000)),
        Found("litellm-router-choice", 0, 0, load(1000)),
        Found("commit", 16, 0, load(100)),
        Found("portkey", 16, 0, load(50)),
    ]
    assert ratios(found) == [
        "commit                 over portkey                c=16  2.0 (2.0 to 2.0) x",
        "our engine             over litellm-router-choice  calls 3.0 (3.0 to 3.0) x",
    ]
    assert table(found)[0].startswith("our engine               calls ")


@pytest.mark.parametrize("operation", ["engine", "worker"])
def test_ours_are_called_as_peers_are(operation: str) -> None:
    [one] = [one for one in CALLED if operation in one.name]
    with one.running() as up:
        told = run_round(up, 1, 0.1)
    assert told.requests > 10
    assert told.errors == 0


def test_a_target_that_is_missed_says_so_and_a_peer_without_one_is_only_told() -> None:
    found = [
        Found("commit", 16, 0, load(100)),
        Found("unleash-server", 16, 0, load(50)),
        Found("portkey", 16, 0, load(50)),
    ]
    told = ratios(found)
    assert told[0].endswith("2.0 (2.0 to 2.0) x  target 8: MISSED")
    assert told[1].endswith("2.0 (2.0 to 2.0) x")


def test_rounds_that_one_of_them_lacks_are_left_out() -> None:
    assert ratios([Found("commit", 16, 0, load(100)), Found("portkey", 16, 1, load(50))]) == []


def test_the_table_has_the_processor_time_of_each_part() -> None:
    [line] = table([Found("commit", 16, 0, load(100))])
    assert "CPU 100 (100 to 100) + 50 (50 to 50) us" in line


def test_wrk_s_report_is_read() -> None:
    told = """
    Latency Distribution
     50%    1.94ms
     99%  870.00us
  24000 requests in 4.00s, 613.10MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
Requests/sec:   6000.50
"""
    found = parse(told)
    assert (found.rps, found.p50_us, found.p99_us, found.requests, found.errors) == (
        6000.5,
        1940,
        870,
        24000,
        7,
    )
