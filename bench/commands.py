"""`python -m bench.commands`: how long commands take from the first key to the last line, by hyperfine.

Each runs as a process of its own with the files of the machine's cache, on an empty SQLite database in a folder of the
bench's own.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.table import Line
from tests.services import ServiceMissing, require

ROOT = Path(__file__).parents[1]

#: Name, and what follows the interpreter.
COMMANDS: Mapping[str, Sequence[str]] = {
    "python alone": ("-c", "pass"),
    "manage.py check": ("manage.py", "check"),
    "python -m worker --help": ("-m", "worker", "--help"),
    "manage.py replay, one pass over the recorded outcomes": (
        "manage.py", "replay", "demo/data/outcomes.csv.gz", "--models", "demo/data/pool.txt", "--incumbent", "GPT-5.4",
        "--min-success", "0.6", "--max-p95-ms", "60000", "--max-safety", "0.15", "--splits", "1", "--seed", "1",
    ),
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.commands", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    try:
        hyperfine = require("hyperfine")
    except ServiceMissing as reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for line in lines(json.loads(_run(hyperfine, Path(name), options.runs))):
            print(line.render())
    return 0


def _run(hyperfine: str, folder: Path, runs: int) -> str:
    """hyperfine's JSON. SystemExit when a command does not end with 0."""
    told = folder / "told.json"
    command = [hyperfine, "-N", "--style", "none", "--warmup", "1", "--runs", str(runs)]
    command += ["--export-json", str(told)]
    for name, rest in COMMANDS.items():
        command += ["-n", name, shlex.join([sys.executable, *rest])]
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "DATA_DIR": str(folder / "data"),
        "LOG_LEVEL": "ERROR",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit("a command failed; what hyperfine said of it is above")
    return told.read_text()


def lines(told: Mapping[str, object]) -> list[Line]:
    """Wall time of every run, and the processor time of one (mean), from hyperfine's JSON."""
    results = told["results"]
    assert isinstance(results, list)
    found = []
    for one in results:
        found.append(Line(one["command"], "s", tuple(one["times"])))
        found.append(Line(f"{one['command']}, CPU", "s", (one["user"] + one["system"],)))
    return found


if __name__ == "__main__":
    sys.exit(main())
