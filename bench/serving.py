"""`python -m bench.serving`: the selection endpoint over HTTP, with keys, counters and stored decisions.

Each round asks every way of storing in turn, so that their ratios are of one moment. After each run the rows in the
database are counted against what was answered.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.loadgen import Load, wrk
from bench.scene import PERSONAS, PROFILES, TENANTS, Scene, Web, scene
from tests.services import ServiceMissing


@dataclass(frozen=True)
class Way:
    """How the endpoint is run and asked."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    threads: int | None = None
    pinned: bool = False
    candidates: bool = True
    request_ids: bool = False


WAYS = (
    Way("commit"),
    Way("commit, on one core", pinned=True),
    Way("commit, brief", candidates=False),
    Way("commit, brief, on one core", pinned=True, candidates=False),
    Way("commit, request_id", request_ids=True),
    Way("write-behind", {"SELECTION_STORE": "write-behind"}, threads=1),
    Way("write-behind, brief", {"SELECTION_STORE": "write-behind"}, threads=1, candidates=False),
    Way("the view alone", {"SELECTION_FRONT": "false"}),
)


@dataclass(frozen=True)
class Run:
    """One run of wrk. ``lost``: answered and not stored; negative: stored more than once."""

    way: str
    workers: int
    connections: int
    round: int
    load: Load
    lost: int


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    chosen = [
        way for way in WAYS if not options.ways or any(way.name.startswith(one) for one in options.ways)
    ]
    runs: list[Run] = []
    try:
        with scene(options.database) as one:
            print(f"{TENANTS * PERSONAS:,} scopes, {PROFILES} profiles; {options.database}", flush=True)
            for run in measure(one, chosen, options):
                runs.append(run)
                print(told(run), flush=True)
    except ServiceMissing as reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return 1
    print("\nmedian (lowest to highest) of rounds\n" + "\n".join(table(runs)))
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=1))
    return 1 if any(run.load.errors or run.lost for run in runs) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    names = "; ".join(way.name for way in WAYS)
    parser.add_argument(
        "ways", nargs="*", metavar="WAY", help=f"by the start of its name; default: all of {names}"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser.parse_args(arguments)


def measure(one: Scene, ways: Sequence[Way], options: argparse.Namespace) -> Iterator[Run]:
    """Every run asked for, the ways of one round after each other."""
    for workers in options.workers:
        for number in range(options.rounds):
            one.score()
            for way in ways:
                if way.pinned and workers > 1:
                    continue
                with warm(one, way, workers) as web:
                    for connections in options.connections:
                        yield ask(one, web, way, workers, connections, number, options.seconds)


class warm:  # noqa: N801  # it reads as the verb it is
    """A web server that was asked for every scope already, its table of decisions empty."""

    def __init__(self, one: Scene, way: Way, workers: int) -> None:
        self._one, self._way, self._workers = one, way, workers
        self._enough = 3 * TENANTS * PERSONAS * workers
        self._web = one.web(workers=workers, threads=way.threads, pinned=way.pinned, **way.environment)

    def __enter__(self) -> Web:
        self._one.forget_decisions()
        web = self._web.__enter__()
        # The first request waits for the policy bundle of a thousand scopes.
        for _ in range(4 * self._workers):
            self._one.ask_once(web)
        script = self._one.script(candidates=False)
        # Until each worker has had each scope, which its first decision reads from the snapshot: on a machine that is
        # busy with other work the usual seconds are too few.
        seconds = 3.0 * self._workers
        while wrk(web.url, connections=4, seconds=seconds, script=script).requests < self._enough:
            seconds *= 2
        time.sleep(1)
        return web

    def __exit__(self, *error: object) -> None:
        self._web.__exit__(None, None, None)


def ask(one: Scene, web: Web, way: Way, workers: int, connections: int, number: int, seconds: float) -> Run:
    script = one.script(candidates=way.candidates, request_ids=way.request_ids)
    before = _settled(one)
    load = wrk(
        web.url,
        connections=connections,
        seconds=seconds,
        script=script,
        watched=(lambda: [web.pid], lambda: one.postgres_pids),
    )
    return Run(way.name, workers, connections, number, load, _missing(one, before, load, connections))


def _missing(one: Scene, before: int, load: Load, connections: int) -> int:
    """Answered well and not stored; negative: stored without an answer, beyond what was under way when wrk left (which
    may hide as many losses)."""
    answered, deadline = load.requests - load.errors, time.monotonic() + 30
    while (stored := one.decisions() - before) < answered and time.monotonic() < deadline:
        time.sleep(0.5)
    stored = _settled(one) - before
    return min(answered + connections - stored, 0) or max(answered - stored, 0)


def _settled(one: Scene) -> int:
    """The number of decisions when it grows no more: what was answered last may be on its way (write-behind)."""
    known = -1
    while (found := one.decisions()) != known:
        known = found
        time.sleep(0.5)
    return found


def told(run: Run) -> str:
    load = run.load
    web, database = (*load.cpu_us, 0.0, 0.0)[:2]
    return (
        f"{run.way:<28} {run.workers} worker{'s' if run.workers > 1 else ' '} c={run.connections:<3}"
        f"{load.rps:>9,.0f} rps  p50 {load.p50_us / 1000:7.2f} ms  p99 {load.p99_us / 1000:7.2f} ms  "
        f"web {web:6.0f} us  database {database:5.0f} us  errors {load.errors}  lost {run.lost}"
    )


def table(runs: Sequence[Run]) -> list[str]:
    """A line for each way, number of workers and of connections."""
    lines = []
    for key in dict.fromkeys((run.way, run.workers, run.connections) for run in runs):
        of = [run.load for run in runs if (run.way, run.workers, run.connections) == key]
        lines.append(
            f"{key[0]:<28} {key[1]} worker{'s' if key[1] > 1 else ' '} c={key[2]:<3} "
            f"{spread([load.rps for load in of]):>30} rps  p50 {spread([load.p50_us / 1000 for load in of], 2)} ms  "
            f"p99 {spread([load.p99_us / 1000 for load in of], 1)} ms  "
            f"web {spread([load.cpu_us[0] for load in of])} us  database {spread([load.cpu_us[1] for load in of])} us"
        )
    return lines


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median (lowest to highest)."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


if __name__ == "__main__":
    sys.exit(main())
