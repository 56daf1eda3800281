"""`python -m bench.clickhouse_states`: the selection endpoint with ClickHouse up, stopped, and with stale telemetry.

A decision reads what was scored, not ClickHouse, so a stopped server should cost it nothing; this measures that. Each
round runs the three states one after the other, and a ratio is of two runs of the same round. With ClickHouse on and
off the metrics are new. With stale ones it is up, so that one thing alone differs; the answers are then of another
rule (reason telemetry_stale: the scope's default), not the same work. Before and after each run one answer's reason,
and whether the web server itself can read ClickHouse, are checked: a run in a wrong state ends the bench.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx

from bench.loadgen import Load
from tests.services import ClickHouseServer, ServiceMissing, clickhouse_server

if TYPE_CHECKING:
    from bench.scene import Scene, Web
    from bench.serving import Way

STALE = "telemetry_stale"


class WrongState(Exception):
    """The web server is not in the state that is to be measured."""


@dataclass(frozen=True)
class State:
    """``minutes_old``: of the metrics; beyond 15 they are stale. ``clickhouse``: whether it runs."""

    name: str
    clickhouse: bool
    minutes_old: int

    @property
    def is_stale(self) -> bool:
        return self.minutes_old > 15


STATES = (State("on", True, 0), State("off", False, 0), State("stale", True, 60))


@dataclass(frozen=True)
class Found:
    """One run. ``reason``: of the answers that were checked; ``lost``: as bench.serving counts it."""

    state: str
    round: int
    reason: str
    load: Load
    lost: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.clickhouse_states", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args(arguments)
    found: list[Found] = []
    try:
        for one in measure(options):
            found.append(one)
            print(told(one), flush=True)
    except ServiceMissing as reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return 1
    except WrongState as reason:
        print(f"NOT MEASURED: {reason}", file=sys.stderr)
        return 1
    print(f"\nc={options.connections}, median (lowest to highest) of rounds")
    print("\n".join([*table(found), *ratios(found)]))
    return 1 if any(one.load.errors or one.lost for one in found) else 0


def measure(options: argparse.Namespace) -> Iterator[Found]:
    """ServiceMissing without wrk, PostgreSQL or ClickHouse; WrongState when a state is not what it should be."""
    from bench.scene import scene
    from bench.serving import Way, ask

    with clickhouse_server() as clickhouse, scene() as one:
        url = clickhouse.url("selection")
        replace(one, environment={**one.environment, "CLICKHOUSE_URL": url}).manage("clickhouse_migrate")
        way = Way("commit", {"CLICKHOUSE_URL": url})
        for number in range(options.rounds):
            for state in STATES:
                with _in(state, one, clickhouse, way) as web:
                    check(one, web, state)
                    run = ask(one, web, way, 1, options.connections, number, options.seconds)
                    reason = check(one, web, state)
                yield Found(state.name, number, reason, run.load, run.lost)


@contextmanager
def _in(state: State, one: "Scene", clickhouse: ClickHouseServer, way: "Way") -> Iterator["Web"]:
    """A warm web server in this state. ClickHouse is stopped beneath it, when it has a connection already."""
    from bench.serving import warm

    one.score(state.minutes_old)
    with warm(one, way, 1) as web:
        reads_clickhouse(one, web)
        if not state.clickhouse:
            clickhouse.server.stop()
        try:
            yield web
        finally:
            if not state.clickhouse:
                clickhouse.server.start()


def check(one: "Scene", web: "Web", state: State) -> str:
    """The reason of one answer. WrongState when it, or what the web server sees of ClickHouse, is of another state."""
    asked = {"tenant": "tenant-0", "persona": "persona-0", "conversation_id": "c-checked"}
    answer = httpx.post(f"{web.url}/api/v1/selections", json=asked, headers=_headers(one), timeout=60)
    answer.raise_for_status()
    reason = str(answer.json()["reason"])
    wrong = contradiction(state, reason, reads=reads_clickhouse(one, web))
    if wrong:
        raise WrongState(wrong)
    return reason


def reads_clickhouse(one: "Scene", web: "Web") -> bool:
    """Whether the web server can read metrics from ClickHouse. httpx.HTTPStatusError when it says anything else."""
    scope = {"tenant": "tenant-0", "persona": "persona-0"}
    answer = httpx.get(f"{web.url}/api/v1/metrics/profiles", params=scope, headers=_headers(one), timeout=60)
    if answer.status_code == 503 and answer.json()["code"] == "clickhouse_unavailable":
        return False
    answer.raise_for_status()
    return True


def _headers(one: "Scene") -> dict[str, str]:
    return {"Authorization": f"Api-Key {one.key}"}


def contradiction(state: State, reason: str, *, reads: bool) -> str | None:
    """What speaks against being in this state; None: nothing."""
    if reads != state.clickhouse:
        return f"{state.name}: the web server {'reads' if reads else 'cannot read'} ClickHouse"
    if (reason == STALE) != state.is_stale:
        return f"{state.name}: an answer's reason is {reason}"
    return None


def told(one: Found) -> str:
    load = one.load
    return (
        f"round {one.round + 1}  {one.state:<6} p50 {load.p50_us / 1000:7.2f} ms  p99 {load.p99_us / 1000:7.2f} ms  "
        f"{load.rps:>7,.0f} rps  reason {one.reason}  errors {load.errors}  lost {one.lost}"
    )


def table(found: Sequence[Found]) -> list[str]:
    """A line for each state, with the reasons its answers had."""
    from bench.serving import spread

    lines = []
    for name in dict.fromkeys(one.state for one in found):
        of = [one for one in found if one.state == name]
        reasons = ", ".join(sorted({one.reason for one in of}))
        lines.append(
            f"{name:<9} p50 {spread([one.load.p50_us / 1000 for one in of], 2)} ms  "
            f"p99 {spread([one.load.p99_us / 1000 for one in of], 2)} ms  reason {reasons}"
        )
    return lines


def ratios(found: Sequence[Found]) -> list[str]:
    """Off and stale over on, of the rounds that have both: above 1 is slower than with ClickHouse up."""
    from bench.serving import spread

    by = {(one.state, one.round): one.load for one in found}
    lines = []
    for name in ("off", "stale"):
        pairs = [
            (load, by["on", number])
            for (state, number), load in by.items()
            if state == name and ("on", number) in by
        ]
        if pairs:
            lines.append(
                f"{name + '/on':<9} p50 {spread([load.p50_us / on.p50_us for load, on in pairs], 2)} x  "
                f"p99 {spread([load.p99_us / on.p99_us for load, on in pairs], 2)} x"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
