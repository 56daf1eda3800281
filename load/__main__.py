"""`python -m load`: start the product apart on real servers, load it for a bounded time, and count what it kept."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load.before_after import compare
from load.forms import FORMS, LONG, Compare, Part, Steady, check, parts
from load.page import PAGE, told, update
from load.product import Product, product
from load.result import Result
from load.running import LocustError, Recorded
from load.sampling import Samples, sampling
from load.scenarios import cold, steady
from tests.services import ServiceMissing


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    # Ended in whatever way, it leaves no process behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wrong = 0
    try:
        for form in LONG if options.form == "all" else (options.form,):
            results = _run(form, options)
            print(told(form, results), flush=True)
            wrong += sum(len(result.wrong) for result in results)
            if options.report:
                update(options.report, form, results)
    except ServiceMissing as reason:
        print(f"load: SKIPPED: {reason}", file=sys.stderr)
        return 1 if os.environ.get("REQUIRE_SERVICES") == "1" else 0
    except LocustError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("load: stopped", file=sys.stderr)
        return 130
    print(f"load: {wrong} things are wrong" if wrong else "load: all is well", flush=True)
    return 1 if wrong else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m load",
        description=__doc__,
        epilog="Everything runs on this machine's loopback; no other host can be named.",
    )
    parser.add_argument(
        "--form",
        choices=[*FORMS, "all"],
        default="short",
        help="what is run (docs/load.md); default %(default)s",
    )
    parser.add_argument("--rps", type=int, metavar="N", help="selections per second of steady parts")
    parser.add_argument("--seconds", type=int, metavar="N", help="how long steady parts last")
    parser.add_argument(
        "--report",
        nargs="?",
        type=Path,
        const=PAGE,
        metavar="FILE",
        help=f"write the form's section of this page anew; without a name {PAGE}",
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave locust's logs and records here")
    options = parser.parse_args(arguments)
    try:
        for form in LONG if options.form == "all" else (options.form,):
            for part in parts(form, options.rps, options.seconds):
                check(part)
    except ValueError as error:
        parser.error(str(error))
    return options


def _run(form: str, options: argparse.Namespace) -> list[Result]:
    with _folder(options.keep, form) as folder, sampling() as samples, product(_say) as running:
        recorded = Recorded()
        return [
            _one(part, running, folder, samples, recorded)
            for part in parts(form, options.rps, options.seconds)
        ]


def _one(part: Part, running: Product, folder: Path, samples: Samples, recorded: Recorded) -> Result:
    if isinstance(part, Compare):
        return compare(running, part, folder, _say)
    running.turn_on()
    if isinstance(part, Steady):
        return steady(running, part, folder, samples, recorded, _say)
    return cold(running, part, folder, samples, recorded, _say)


@contextmanager
def _folder(keep: Path | None, form: str) -> Iterator[Path]:
    if keep is not None:
        folder = keep.resolve() / form
        folder.mkdir(parents=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="load-run-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _say(line: str) -> None:
    print(f"load: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
