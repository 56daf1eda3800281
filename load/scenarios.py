"""The parts of a load test: what each does to a running product, and what it found."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from load.figures import Count, summaries
from load.forms import Cold, Steady
from load.keeping import kept
from load.product import WEB_PROCESSES, Product
from load.result import Memory, Result
from load.running import Recorded, run
from load.sampling import Samples, write
from load.trend import MOST_GROWTH, trend

#: The share of a steady run in which processes settle: imports, pools, caches.
WARM_UP = 0.2
#: Whose memory is ours to answer for; servers fill the caches that they are allowed.
OURS = ("web", "worker", "beat")
_BUILT = "policy bundle built: "
Say = Callable[[str], None]


def steady(
    product: Product, part: Steady, folder: Path, samples: Samples, earlier: Recorded, say: Say
) -> Result:
    """``earlier`` is what the product has acknowledged to other parts of this run."""
    say(f"{part.rps} selections per second for {part.seconds} s, a completion for each")
    began = len(samples.taken)
    users = part.rps + 2
    recorded = run("steady", product.url, product.key, {"rps": part.rps}, folder, users, part.seconds)
    during = Samples(samples.taken[began:])
    result = _result(f"{part.rps} selections per second for {part.seconds} s", recorded, during)
    product.reported += len(recorded.events)
    result.facts.append(product.quarantined())
    _add(earlier, recorded)
    say("looking for every decision and every completion")
    result.counts = kept(product, earlier)
    write(during, folder / "memory.csv")
    result.memory = memory(during, part.seconds * WARM_UP)
    result.wrong += _inexact(result.counts)
    if len(recorded.events) != len(recorded.decisions):
        result.wrong.append(f"{len(recorded.decisions)} decisions, but {len(recorded.events)} completions")
    if part.judge_memory:
        result.wrong += leaks(result.memory)
    return result


def cold(product: Product, part: Cold, folder: Path, samples: Samples, earlier: Recorded, say: Say) -> Result:
    """Against web processes that have just started, too."""
    url, log = product.start_cold_web()
    say(f"{part.clients} clients at once, {WEB_PROCESSES} web processes that have built no policy yet")
    began = len(samples.taken)
    recorded = run("cold", url, product.key, {"clients": part.clients}, folder, part.clients, 120)
    result = _result(f"{part.clients} cold clients at once", recorded, Samples(samples.taken[began:]))
    _add(earlier, recorded)
    result.counts = kept(product, earlier)
    result.wrong += _inexact(result.counts)
    for what, count in (
        ("policies", sum(one.name == "policy" and one.error is None for one in recorded.asked)),
        ("first profiles", len(recorded.decisions)),
    ):
        result.facts.append(f"{count} of {part.clients} clients got {what}.")
        if count != part.clients:
            result.wrong.append(result.facts[-1])
    built = builds(log.read_text(errors="replace"))
    told = ", ".join(f"{n} of {version}" for version, n in built.items())
    result.facts.append(
        f"Policy bundles that {WEB_PROCESSES} web processes built meanwhile: {told or 'none'}."
    )
    if not built or any(n > WEB_PROCESSES for n in built.values()):
        result.wrong.append(f"more bundles were built than one per process and version, or none: {told}")
    return result


def builds(log: str) -> dict[str, int]:
    """How often the processes of one log built each version of the policy."""
    found: dict[str, int] = {}
    for line in log.splitlines():
        _, built, version = line.partition(_BUILT)
        if built:
            name = version.split()[0]
            found[name] = found.get(name, 0) + 1
    return found


def _result(title: str, recorded: Recorded, during: Samples) -> Result:
    result = Result(title, summaries(recorded.asked), reasons=dict(recorded.reasons.most_common()))
    result.wrong += [f"{n} x {error}" for error, n in recorded.errors.most_common(10)]
    used, busy = during.cores()
    if used:
        parts = ", ".join(
            f"{role} {cores:.2f}" for role, cores in sorted(used.items(), key=lambda one: -one[1])
        )
        others = max(busy - sum(used.values()), 0.0)
        result.facts.append(f"Cores kept busy: {parts}; by everything else on the machine {others:.2f}.")
    return result


def _add(earlier: Recorded, recorded: Recorded) -> None:
    earlier.decisions += recorded.decisions
    earlier.events += recorded.events


def _inexact(counts: Sequence[Count]) -> list[str]:
    return [one.sentence() for one in counts if not one.is_exact]


def memory(samples: Samples, skip_seconds: float) -> list[Memory]:
    """What the processes took that lived from the end of the warm-up to the end; empty: too few looks."""
    found: list[Memory] = []
    servers: dict[str, list[list[tuple[float, float]]]] = {}
    numbers: Counter[str] = Counter()
    for (role, _), values in samples.memory(skip_seconds).items():
        if role in OURS:
            numbers[role] += 1
            if told := trend(values):
                found.append(Memory(f"{role} {numbers[role]}", True, told))
        elif role != "load":
            servers.setdefault(role, []).append(values)
    for role, all_values in servers.items():
        together = [(looks[0][0], sum(mb for _, mb in looks)) for looks in zip(*all_values, strict=True)]
        if told := trend(together):
            found.append(Memory(role, False, told))
    return found


def leaks(found: Sequence[Memory]) -> list[str]:
    """A sentence for each process of ours that grew."""
    ours = [one for one in found if one.is_ours]
    if not ours:
        return ["too few looks at memory for a trend"]
    return [
        f"{one.name} grew by {one.trend.growth:.1%}, more than {MOST_GROWTH:.0%}"
        for one in ours
        if not one.trend.is_level
    ]
