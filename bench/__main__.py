"""`python -m bench`: run the benches and print their figures beside their targets."""

import argparse
import gc
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import deciding, events, overrides, pages, pipeline, reading, watching
from bench.setup import engine, engines, own_environment
from bench.table import Line

NAMES = (
    "ingest",
    "drain",
    "metrics",
    "scoring",
    "engine",
    "local",
    "endpoint",
    "watching",
    "pages",
    "overrides",
)
#: Run only when named: it takes minutes.
LONG = ("events",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all), {', '.join(LONG)}"
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look")
    parser.add_argument("--engine", choices=["chdb", "native", "both"], default="both")
    parser.add_argument("--events", nargs="+", metavar="N", type=count, default=[5_000_000], help="5M 50M")
    options = parser.parse_args()
    if unknown := set(options.names) - {*NAMES, *LONG}:
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}; median of rounds (lowest to highest)", flush=True)
    missed = 0
    with own_environment() as folder, engines(options.engine) as urls:
        for line in run(set(options.names or NAMES), urls, folder, options.events, quick=options.quick):
            told = line.render()
            missed += told.endswith("MISSED")
            print(told, flush=True)
    print(f"{missed} targets missed" if missed else "every target met")
    return 0


def run(
    names: set[str], urls: dict[str, str], folder: Path, sizes: list[int], *, quick: bool
) -> Iterator[Line]:
    """The lines of the benches asked for, as they are found."""
    small: dict[str, Callable[[], list[Line]]] = {
        "ingest": lambda: pipeline.ingest(batches=10 if quick else 30, rounds=3),
        "scoring": lambda: deciding.scoring(1_000 if quick else 10_000, rounds=1 if quick else 3),
        "engine": lambda: deciding.engine(rounds=3),
        "local": lambda: deciding.local(folder, rounds=3),
        "endpoint": lambda: deciding.endpoint(500 if quick else 2_000, rounds=3),
        "watching": lambda: watching.watching(folder, 300 if quick else 1_000, rounds=5),
    }
    for name, bench in small.items():
        if name in names:
            yield from bench()
            _leave_behind()
    for name, url in urls.items():
        with engine(url):
            if "drain" in names:
                yield from pipeline.drain(name, 20_000 if quick else 100_000, rounds=3)
            if "metrics" in names:
                yield from reading.metrics(name, 200_000 if quick else 5_000_000, rounds=7)
            if "pages" in names:
                # After the metrics, so that there is something to read trends from.
                yield from pages.overview(name, 1_000, rounds=7)
            if "events" in names:
                yield from events.compared(name, sizes, rounds=7)
    if "overrides" in names:
        # Last of all: its tenants would be in the others' way.
        _leave_behind()
        yield from overrides.overrides(
            10_000 if quick else 100_000, requests=300 if quick else 1_000, rounds=3 if quick else 5
        )


def _leave_behind() -> None:
    """What one bench left in memory is not to be searched for garbage in the time of the next one."""
    gc.collect()
    gc.freeze()


def count(told: str) -> int:
    """ "5M" or "5000000". Raises ValueError."""
    return int(float(told[:-1]) * 1_000_000) if told.endswith("M") else int(told)


if __name__ == "__main__":
    sys.exit(main())
