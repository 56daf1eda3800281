"""`python -m bench.serving_profile`: where the web process spends its time while it is asked, by py-spy.

py-spy has an environment of its own, as peers have. It looks at one granian worker some hundred times a second and
notes where the thread is that runs Python; what granian, the kernel and waiting take is not in it. With --all it notes
all threads that seem to run, and many of those wait. Being looked at costs: the rate of such a run is no figure.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.loadgen import family, wrk
from bench.peers import install
from bench.scene import Scene, scene
from bench.serving import WAYS, Way, warm
from tests.services import ServiceMissing

MOST = 25
#: py-spy takes so long to begin and to end.
STARTS_SECONDS = 2
FORMATS = {".svg": "flamegraph", ".json": "speedscope", ".txt": "raw"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.serving_profile", description=__doc__)
    names = [way.name for way in WAYS]
    parser.add_argument(
        "--way", choices=names, default="commit", metavar="WAY", help=f"of {'; '.join(names)}"
    )
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=500, help="looks a second")
    parser.add_argument(
        "--all", action="store_true", help="also threads that run no Python, most of which wait"
    )
    parser.add_argument(
        "--file", type=Path, help="keep it, too: .svg a flame graph, .json for speedscope, .txt as it is"
    )
    options = parser.parse_args(arguments)
    if options.file and options.file.suffix not in FORMATS:
        parser.error(f"--file must end in {', '.join(FORMATS)}")
    if options.file and not options.file.absolute().parent.is_dir():
        parser.error(f"there is no folder {options.file.parent}")
    [way] = [way for way in WAYS if way.name == options.way]
    try:
        install.from_pypi("py-spy", "py-spy")
        with scene() as one:
            print("\n".join(hottest(_record(one, way, options))))
    except ServiceMissing as reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return 1
    return 0


def _record(one: Scene, way: Way, options: argparse.Namespace) -> str:
    """What py-spy saw, in its raw form. RuntimeError with what it said when it saw nothing."""
    with (
        warm(one, way, 1) as web,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        ThreadPoolExecutor(1) as beside,
    ):
        worker = max(family([web.pid]), key=_threads)
        raw = Path(folder) / "raw.txt"
        # One after the other: each stops the process for a moment whenever it looks.
        wanted = [(raw, "raw"), *([(options.file, FORMATS[options.file.suffix])] if options.file else [])]
        load = beside.submit(
            wrk,
            web.url,
            connections=options.connections,
            seconds=(options.seconds + STARTS_SECONDS) * len(wanted),
            script=one.script(candidates=way.candidates, request_ids=way.request_ids),
        )
        for path, form in wanted:
            _spy(options, worker, path, form)
        found = load.result()
        print(
            f"{way.name}, c={options.connections}: {found.rps:,.0f} rps while looked at, errors {found.errors}"
        )
        return raw.read_text()


def _threads(pid: int) -> int:
    """Of granian's processes the worker has the most; the other only looks after it."""
    path = Path(f"/proc/{pid}/task")
    return len(list(path.iterdir())) if path.exists() else 0


def _spy(options: argparse.Namespace, pid: int, to: Path, form: str) -> None:
    command = [str(install.python("py-spy").parent / "py-spy"), "record", "--pid", str(pid)]
    command += ["--duration", str(options.seconds), "--rate", str(options.rate), "--format", form]
    command += ["--output", str(to), *([] if options.all else ["--gil"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds + 60, check=False)
    if done.returncode:
        raise RuntimeError(f"py-spy ended with {done.returncode}: {done.stderr[-1000:]}")


def hottest(raw: str, most: int = MOST) -> list[str]:
    """py-spy's stacks (``outer;inner count`` a line) by function: first by its own samples, then with all it calls."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    samples = own.total()
    if not samples:
        return ["no samples"]
    lines = [f"{samples:,} samples"]
    for title, counter in (("by itself", own), ("with what it calls", total)):
        lines += ["", title]
        lines += [f"{count / samples:7.1%}  {name}" for name, count in counter.most_common(most)]
    return lines


def _function(frame: str) -> str:
    """``select (routing/selection.py:33)`` without the line."""
    name, _, line = frame.rpartition(":")
    if not name:
        return "(no Python in it)"
    return f"{name})" if line.rstrip(")").isdecimal() else frame


if __name__ == "__main__":
    sys.exit(main())
