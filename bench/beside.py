"""`python -m bench.beside`: our endpoint, our engine and their peers in one run, round by round, and the ratios asked
for.

In each round every one of ours and of the peers is started, warmed and asked in turn, so that a slow minute of the
machine is everybody's; a ratio is of two runs of the same round.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import ours
from bench.loadgen import Load
from bench.peers import Peer, peers, run_round
from bench.scene import scene
from bench.serving import WAYS, Way, ask, spread, warm
from tests.services import ServiceMissing

#: Of ours: what stores how, and whether candidates are in the answer.
OURS = ("commit", "commit, brief", "write-behind", "write-behind, brief")
#: Without HTTP there are no connections: one call after the other.
CALLS = 0
#: Peer, and how many times as fast ours shall be.
TARGETS = {"tensorzero": 2.5, "unleash-server": 8.0, "litellm-proxy": 100.0}


@dataclass(frozen=True)
class Found:
    """``lost``: as bench.serving counts it; None: a peer stores nothing."""

    who: str
    connections: int
    round: int
    load: Load
    lost: int | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("--connections", type=int, nargs="+", default=[16])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pinned", action="store_true", help="each server, ours and theirs, on one core")
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    options = parser.parse_args(arguments)
    found: list[Found] = []
    left_out: dict[str, str] = {}
    try:
        _measure(found, left_out, options)
    except ServiceMissing as reason:
        print(f"SKIPPED: {reason}", file=sys.stderr)
        return 1
    print(
        "\n".join(
            [*table(found), "", *ratios(found), *[f"{who}: left out: {why}" for who, why in left_out.items()]]
        )
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    return 1 if left_out or any(one.load.errors or one.lost for one in found) else 0


def _measure(found: list[Found], left_out: dict[str, str], options: argparse.Namespace) -> None:
    ways = [way for way in WAYS if way.name in OURS]
    with scene() as one:
        for number in range(options.rounds):
            one.score()
            for way in ways:
                chosen = Way(way.name, way.environment, way.threads, options.pinned, way.candidates)
                with warm(one, chosen, 1) as web:
                    for connections in options.connections:
                        run = ask(one, web, chosen, 1, connections, number, options.seconds)
                        _tell(found, Found(way.name, connections, number, run.load, run.lost))
            for peer in (*ours.CALLED, *peers(options.only)):
                if peer.name not in left_out:
                    _ask_peer(found, left_out, peer, number, options)


def _ask_peer(
    found: list[Found], left_out: dict[str, str], peer: Peer, number: int, options: argparse.Namespace
) -> None:
    try:
        with peer.running(pinned=options.pinned) as up:
            run_round(up, 4, 2)
            for connections in [CALLS] if peer.in_process else options.connections:
                load = run_round(up, connections, options.seconds)
                _tell(found, Found(peer.name, connections, number, load))
    except (ServiceMissing, RuntimeError, OSError) as reason:
        left_out[peer.name] = str(reason)[:300]
        print(f"{peer.name}: {left_out[peer.name]}", file=sys.stderr, flush=True)


def _tell(found: list[Found], one: Found) -> None:
    found.append(one)
    cpu = " + ".join(f"{us:,.0f}" for us in one.load.cpu_us)
    print(
        f"round {one.round + 1}  {one.who:<24} {_how(one.connections)} {one.load.rps:>9,.0f} rps  p50 "
        f"{one.load.p50_us / 1000:.3f} ms  CPU {cpu} us  errors {one.load.errors}"
        f"{'' if one.lost is None else f'  lost {one.lost}'}",
        flush=True,
    )


def table(found: Iterable[Found]) -> list[str]:
    """Medians of rounds, with the lowest and the highest."""
    by: dict[tuple[str, int], list[Load]] = {}
    for one in found:
        by.setdefault((one.who, one.connections), []).append(one.load)
    return [
        f"{who:<24} {_how(connections)} {spread([load.rps for load in of]):>28} rps  p50 "
        f"{spread([load.p50_us / 1000 for load in of], 2 if connections else 3)} ms  CPU "
        f"{' + '.join(spread(list(cpu)) for cpu in zip(*[load.cpu_us for load in of], strict=True))} us"
        for (who, connections), of in by.items()
    ]


def ratios(found: Sequence[Found]) -> list[str]:
    """Each of ours over each peer, of the rounds that have both."""
    rps = {(one.who, one.connections, one.round): one.load.rps for one in found}
    lines = []
    our_names = (*OURS, *(one.name for one in ours.CALLED))
    for our in our_names:
        for who in dict.fromkeys(one.who for one in found if one.who not in our_names):
            for connections in dict.fromkeys(one.connections for one in found):
                rounds = [
                    rps[our, connections, number] / theirs
                    for (name, count, number), theirs in rps.items()
                    if (name, count) == (who, connections) and (our, connections, number) in rps
                ]
                if rounds:
                    lines.append(_ratio(our, who, connections, rounds))
    return lines


def _how(connections: int) -> str:
    return "calls" if connections == CALLS else f"c={connections:<3}"


def _ratio(our: str, who: str, connections: int, rounds: Sequence[float]) -> str:
    line = f"{our:<22} over {who:<22} {_how(connections)} {spread(rounds, 1)} x"
    if (target := TARGETS.get(who)) is None:
        return line
    return f"{line}  target {target:g}: {'met' if statistics.median(rounds) >= target else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
