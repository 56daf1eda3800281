"""What a bench of peers found, and how it is printed."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.loadgen import Load


@dataclass(frozen=True)
class Run:
    """One peer asked once. ``connections`` is None for calls in process."""

    peer: str
    version: str
    connections: int | None
    round: int
    load: Load


def table(runs: Iterable[Run]) -> list[str]:
    """A line for each peer and number of connections: medians of the rounds, lowest and highest."""
    groups: dict[tuple[str, str, int | None], list[Load]] = {}
    for run in runs:
        groups.setdefault((run.peer, run.version, run.connections), []).append(run.load)
    return [_line(*key, loads) for key, loads in groups.items()]


def _line(peer: str, version: str, connections: int | None, loads: Sequence[Load]) -> str:
    def middle(value: Callable[[Load], float]) -> float:
        return statistics.median(map(value, loads))

    rates = [load.rps for load in loads]
    asked = "in process" if connections is None else f"c={connections}"
    unit = "calls/s" if connections is None else "rps"
    cpu = [f"{middle(lambda load, n=n: load.cpu_us[n]):,.0f}" for n in range(len(loads[0].cpu_us))]  # type: ignore[misc]
    told = (
        f"{f'{peer} {version}':<32} {asked:<10} {middle(lambda load: load.rps):>9,.0f} {unit:<7} "
        f"{f'({min(rates):,.0f} to {max(rates):,.0f})':<22} p50 {middle(lambda load: load.p50_us):>9,.1f} us  "
        f"p99 {middle(lambda load: load.p99_us):>9,.1f} us  CPU {' + '.join(cpu)} us"
    )
    errors = sum(load.errors for load in loads)
    return f"{told}  ERRORS: {errors:,} of {sum(load.requests for load in loads):,}" if errors else told
