"""`python -m bench.peers`: other products on this machine, each started as its makers would and asked over loopback.

What is not installed is installed first, from PyPI and npm, into environments of its own below var/bench/peers.
Rounds go round all peers, so that a slow minute of the machine is everybody's. CPU per request is the peer's own, then
(after +) that of what it stands on: the constant upstream or the database. What cannot be measured is told and left
out.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import httpx

from bench.peers import ALL, Peer, peers, run_round
from bench.peers.table import Run, table
from tests.services import ServiceMissing


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every peer was measured without an error."""
    options = _options(arguments)
    runs: list[Run] = []
    missing: dict[str, str] = {}
    chosen = peers(options.only)
    for number in range(options.rounds):
        for peer in chosen:
            if peer.name in missing:
                continue
            try:
                for run in one_round(peer, options, number):
                    runs.append(run)
                    print(table([run])[0], flush=True)
            except ServiceMissing as reason:
                missing[peer.name] = f"SKIPPED: {reason}"
            except (RuntimeError, OSError, httpx.HTTPError, subprocess.SubprocessError) as reason:
                missing[peer.name] = f"FAILED: {reason}"
            if peer.name in missing:
                print(f"{peer.name} {missing[peer.name]}", file=sys.stderr, flush=True)
    print("\n".join(report(chosen, runs, missing)))
    if options.json:
        found = {
            "runs": [asdict(run) for run in runs],
            "missing": missing,
            "notes": {p.name: p.note for p in chosen},
        }
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if missing or any(run.load.errors for run in runs) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    names = [peer.name for peer in ALL]
    parser.add_argument(
        "--only", nargs="+", default=[], choices=names, metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pinned", action="store_true", help="each peer, not what it stands on, on one core")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser.parse_args(arguments)


def one_round(peer: Peer, options: argparse.Namespace, number: int) -> Iterator[Run]:
    """Start it, warm it, ask it at every number of connections, end it."""
    with peer.running(pinned=options.pinned) as up:
        run_round(up, 4, min(2.0, options.seconds))
        for connections in [None] if peer.in_process else options.connections:
            load = run_round(up, connections or 1, options.seconds)
            yield Run(up.name, up.version, connections, number, load)


def report(chosen: Sequence[Peer], runs: Sequence[Run], missing: dict[str, str]) -> list[str]:
    """The table, what is missing from it, and what each peer does more and less than we do."""
    lines = ["", "median (lowest to highest) of rounds", *table(runs)]
    lines += [f"{name} {reason.splitlines()[0]}" for name, reason in missing.items()]
    return [*lines, "", *(f"{peer.name}: {peer.note}" for peer in chosen if peer.name not in missing)]


if __name__ == "__main__":
    sys.exit(main())
