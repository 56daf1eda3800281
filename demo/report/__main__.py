"""`python -m demo.report`: run the demo's load with the flag off, then on, and write what it cost and achieved."""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OUT = Path("docs/reports/cost-performance.md")


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    # Ended in whatever way, it cleans up behind it; also where a shell began it in the background, deaf to Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with _folder(options.keep) as folder:
            told = _report(options, folder)
    except KeyboardInterrupt:
        print("report: stopped; nothing was written", file=sys.stderr)  # noqa: T201  # this is a program's face
        return 130
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(told, encoding="utf-8")
    print(f"report: {options.out}")  # noqa: T201
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.report", description=__doc__)
    parser.add_argument(
        "--conversations", type=_count, default=900, metavar="N", help="per side; default %(default)s"
    )
    parser.add_argument("--seed", type=int, default=1, help="of conversations, answers and shares; default 1")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help="default %(default)s")
    parser.add_argument(
        "--holdout",
        type=_share,
        default=Decimal("0.4"),
        metavar="SHARE",
        help="kept on the default with the flag on; default %(default)s",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=20.0,
        metavar="X",
        help="calls take 1/X of the recorded time; default %(default)g",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="run in this new folder and leave it; default: a temporary one",
    )
    options = parser.parse_args(arguments)
    if options.keep and options.keep.exists():
        parser.error(f"--keep: {options.keep} is there already")
    return options


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 2 <= int(text) <= 100_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 2 to 100000")
    return int(text)


def _share(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal(-1)
    if not 0 <= value <= Decimal("0.9"):
        raise argparse.ArgumentTypeError(f"{text!r} is no share from 0 to 0.9")
    return value


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return value


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="report-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _own_environment(folder: Path) -> None:
    """Point the product at this folder, whatever the environment says."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DEPLOYMENT_MODE": "LOCAL",
        "DATA_DIR": str(folder),
        "LOG_LEVEL": "ERROR",
        "DATABASE_URL": "",
        "REDIS_URL": "",
        "CLICKHOUSE_URL": "",
    }
    import django
    from django.conf import settings

    django.setup()
    # DEBUG keeps every query in memory.
    settings.DEBUG = False


def _report(options: argparse.Namespace, folder: Path) -> str:
    _own_environment(folder)
    # Nothing of the product can be imported before Django is set up.
    from demo.report.page import page
    from demo.report.run import Wanted, run

    wanted = Wanted(options.conversations, options.holdout, options.seed, options.speed)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, int] = {}

        def tick(phase: str, total: int) -> None:
            if phase not in bars:
                bars[phase] = progress.add_task(f"conversations, {phase}", total=total)
            progress.advance(bars[phase])  # type: ignore[arg-type]

        found = run(wanted, folder, lambda line: progress.console.print(f"report: {line}"), tick)
    return page(found)


if __name__ == "__main__":
    sys.exit(main())
