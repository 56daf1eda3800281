"""`python -m bench.capacity`: the capacity tables, computed from measured costs; `--measure` measures those anew
that no other bench does."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench.capacity.model import COSTS
from bench.capacity.table import tables

FILE = Path(__file__).parents[1] / "costs.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--costs", type=Path, default=FILE, metavar="FILE", help="default: bench/costs.json")
    parser.add_argument(
        "--markdown", action="store_true", help="the tables alone, without what they are made of"
    )
    parser.add_argument("--measure", action="store_true", help="measure, and write into the file, first")
    options = parser.parse_args()
    told = orjson.loads(options.costs.read_bytes()) if options.costs.exists() else {"costs": {}}
    if options.measure:
        from bench.capacity.measuring import measured

        for name, value in measured().items():
            print(f"{name:<32} {value:>10.3g}  {COSTS[name]}", flush=True)
            told["costs"][name] = {
                "value": float(f"{value:.3g}"),
                "measured": f"{datetime.now(UTC):%Y-%m-%d}",
                "by": "python -m bench.capacity --measure",
            }
        options.costs.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    costs = read(told)
    if not options.markdown:
        print(f"Costs measured on {told['machine']}:\n")
        for name, what in COSTS.items():
            told_value = f"{costs[name]:,.6g}" if name in costs else "not measured"
            print(f"  {name:<32} {told_value:>12}  {what}")
        print()
    print(tables(costs))
    return 0


def read(told: Any) -> dict[str, float]:
    """The costs in a file; one that is null there is not measured. Raises ValueError when one is missing or unknown."""
    if wrong := told["costs"].keys() ^ COSTS.keys():
        raise ValueError(f"missing or unknown costs: {', '.join(sorted(wrong))}")
    values = {name: one["value"] for name, one in told["costs"].items()}
    return {name: float(value) for name, value in values.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
