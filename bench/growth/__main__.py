"""`python -m bench.growth`: how costs grow. Prints a table with fitted exponents; --png draws it, --json keeps it."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from bench.growth import building, deciding, memory
from bench.growth.curves import Curve, put, table
from bench.growth.plot import draw
from bench.setup import own_environment

PARTS = ("engine", "building", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, for a look")
    parser.add_argument("--png", type=Path, help="draw the curves into this file")
    parser.add_argument("--json", type=Path, help="write the curves into this file")
    parser.add_argument("--report", type=Path, help="put the table between this file's markers")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = [part for part in PARTS if part in (options.parts or PARTS)]
    curves = list(_apart(wanted, quick=options.quick) if len(wanted) > 1 else _of(wanted[0], options.quick))
    if options.json:
        options.json.write_text(json.dumps([asdict(curve) for curve in curves], indent=1) + "\n")
    if len(wanted) > 1 or options.png or not options.json:
        print(table(curves), flush=True)
    if options.report:
        options.report.write_text(put(options.report.read_text(), "growth", table(curves)))
    if options.png:
        draw(curves, options.png)
    return 0


def _apart(parts: list[str], *, quick: bool) -> Iterator[Curve]:
    """Each part in a process of its own, for Django is set up once per process, on one database."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="bench-") as folder:
        for part in parts:
            print(f"measuring {part}", file=sys.stderr, flush=True)
            path = Path(folder) / f"{part}.json"
            flags = ["--quick"] if quick else []
            command = [sys.executable, "-m", "bench.growth", part, "--json", str(path), *flags]
            subprocess.run(command, check=True)
            for told in json.loads(path.read_text()):
                yield Curve(**{**told, "points": tuple(map(tuple, told["points"]))})


def _of(part: str, quick: bool) -> Iterator[Curve]:
    if part == "memory":
        yield from memory.curves(memory.QUICK if quick else memory.SIZES)
        return
    with own_environment():
        if part == "engine":
            yield from deciding.curves(rounds=3 if quick else 7)
        else:
            sizes = (10, 100, 1_000) if quick else building.SCOPES
            overrides = 10_000 if quick else building.OVERRIDES
            yield from building.curves(1 if quick else 3, sizes, overrides)


if __name__ == "__main__":
    sys.exit(main())
