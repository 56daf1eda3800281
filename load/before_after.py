"""The flag off, then on: conversations through the reference worker, compared by demo.report's figures."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from load.figures import count_of, summaries
from load.forms import Compare
from load.keeping import counted, rolled_up
from load.product import Product
from load.result import Result, Table
from load.running import ROOT, Recorded, run

SEED = 1
#: Conversations at once.
USERS = 24
#: Longer than this takes nothing; a run that does is broken.
_MOST_SECONDS = 1200
#: More than this at the median, and latencies, time limits and so successes are the machine's own.
MOST_DELAY_MS = 1000.0
TOO_SLOW = (
    "**This machine was too slow to compare profiles on**: calls came late and failed for that, so the figures above "
    "tell of the machine."
)
#: What is told of each side: name, factor, decimals, unit.
_TOLD = (
    ("cost", 1000.0, 2, "cost, USD per 1,000 completions"),
    ("success", 100.0, 1, "success, %"),
    ("p95", 0.001, 1, "p95, s"),
)
_CHANGES = (("cost_share", 100.0, 1), ("success", 100.0, 1), ("p95", 0.001, 1))
_SIDES = {
    "before": "before: flag off",
    "selected": "after: flag on",
    "held_out": "flag on, held out on the default",
}


def compare(product: Product, part: Compare, folder: Path, say: Callable[[str], None]) -> Result:
    """The flag must be off at the beginning; it is on at the end."""
    began = product.began_at
    both = [_phase("before", product, part, folder, say)]
    product.turn_on()
    both.append(_phase("after", product, part, folder, say))
    result = Result(f"{part.conversations} conversations with the flag off, then as many with it on")
    asked = [one for recorded in both for one in recorded.asked]
    result.requests = summaries(asked)
    result.wrong += [f"{n} x {error}" for recorded in both for error, n in recorded.errors.most_common(5)]
    reported = sum(int(recorded.more["reported"]) for recorded in both)
    product.reported += reported
    conversations = "conversation_id LIKE 'before-%' OR conversation_id LIKE 'after-%'"
    found = counted(product, f"SELECT count() FROM completions FINAL WHERE {conversations}", reported)
    result.counts = [count_of("the worker's completions in ClickHouse", reported, found), rolled_up(product)]
    result.wrong += [one.sentence() for one in result.counts if not one.is_exact]
    for name, sentence in (
        ("refused", "reports were refused"),
        ("decided_otherwise", "profiles came from elsewhere than the service"),
    ):
        n = sum(int(recorded.more[name]) for recorded in both)
        result.facts.append(f"{n} {sentence}.")
        if name == "refused" and n:
            result.wrong.append(result.facts[-1])
    delay = max(recorded.more["delay_p50_ms"] for recorded in both)
    result.facts.append(
        f"Calls took 1/{part.speed:g} of the recorded time and are counted as if nobody had hurried; on that scale "
        f"this machine added {delay:.0f} ms to a call at the median."
    )
    if delay > MOST_DELAY_MS:
        result.facts.append(TOO_SLOW)
    result.facts.append(product.quarantined())
    told = _told_by_the_product(product, began.isoformat())
    result.tables += tables(told)
    held = sum(side["conversations"] for side in told["sides"].values())
    if held != 2 * part.conversations:
        result.wrong.append(f"{held} conversations were found, not {2 * part.conversations}")
    return result


def _phase(phase: str, product: Product, part: Compare, folder: Path, say: Callable[[str], None]) -> Recorded:
    say(f"{part.conversations} conversations through the reference worker, {phase} the flag")
    order = {
        "phase": phase,
        "conversations": part.conversations,
        "speed": part.speed,
        "seed": SEED,
        "users": USERS,
        "folder": str(folder / f"worker-{phase}"),
    }
    return run("conversations", product.url, product.key, order, folder / phase, USERS, _MOST_SECONDS)


def _told_by_the_product(product: Product, began: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "load.comparing", began, str(SEED)],
        cwd=ROOT,
        env=product.apart.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the comparison failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def tables(told: Mapping[str, Any]) -> list[Table]:
    """What each side came to, and by how much the sides with the flag on differ from before."""
    sides = [
        (
            label,
            f"{told['sides'][side]['conversations']} / {told['sides'][side]['completions']}",
            *(estimate(told["sides"][side][name], by, digits) for name, by, digits, _ in _TOLD),
            ", ".join(f"{reason} {share:.0%}" for reason, share in told["sides"][side]["reasons"].items()),
        )
        for side, label in _SIDES.items()
    ]
    changes = [
        (
            _SIDES[side],
            *(estimate(change[name], by, digits, "+") for name, by, digits in _CHANGES),
        )
        for side, change in told["changes"].items()
    ]
    return [
        (("side", "conversations / completions", *(label for *_, label in _TOLD), "reasons"), sides),
        (("less before", "cost, %", "success, points", "p95, s"), changes),
    ]


def estimate(one: Mapping[str, float] | None, by: float, digits: int, sign: str = "") -> str:
    """Value and 95% interval; with a sign, those whose interval is without 0 get a star; "-": cannot be told."""
    if one is None:
        return "-"
    value, lower, upper = (f"{one[name] * by:{sign}.{digits}f}" for name in ("value", "lower", "upper"))
    star = "*" if sign and (one["lower"] > 0 or one["upper"] < 0) else ""
    return f"{value} [{lower}, {upper}]{star}"
