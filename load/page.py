"""What was found, as text: for the terminal, and as a section of docs/reports/load.md."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from load.figures import Count, Summary
from load.result import Memory, Result

PAGE = Path("docs/reports/load.md")
_HEAD = """# Load

Written by `make load` with `REPORT=`, a section a form; do not edit. [docs/load.md](../load.md) says what each form
does and how to read it.
"""
_ORDER = ("rate", "soak", "cold", "compare", "short")


def told(form: str, results: Sequence[Result]) -> str:
    """A form's section."""
    now = datetime.now(UTC)
    lines = [
        f"## {form}",
        "",
        _circumstances(now),
    ]
    for result in results:
        lines += ["", f"### {result.title}", "", *_body(result)]
    return "\n".join(lines) + "\n"


def update(path: Path, form: str, results: Sequence[Result]) -> None:
    """Put the form's section into the page in place of its last one; the others stay."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = {
        match[1]: match[0] for match in re.finditer(r"^## (\S+)\n(?:(?!^## ).*\n?)*", text, re.MULTILINE)
    }
    sections[form] = told(form, results)
    ordered = sorted(sections, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "\n".join([_HEAD, *(sections[name].rstrip() + "\n" for name in ordered)]), encoding="utf-8"
    )


def _body(result: Result) -> list[str]:
    blocks: list[list[str]] = []
    if result.requests:
        head = ("request", "count", "errors", "per second", "lowest 10 s", "p50", "p95", "p99", "longest")
        blocks.append(table(head, map(_request_row, result.requests)))
    if result.counts:
        blocks.append(
            table(("kept", "acknowledged", "missing", "unknown", "twice"), map(_count_row, result.counts))
        )
    if result.memory:
        memory = ("process", "MB, first quarter", "MB, last quarter", "growth", "judged")
        blocks.append(table(memory, map(_memory_row, result.memory)))
    blocks += [table(*one) for one in result.tables]
    if result.reasons:
        blocks.append(["Reasons: " + ", ".join(f"{name} {n:,}" for name, n in result.reasons.items()) + "."])
    blocks += [[fact] for fact in result.facts]
    wrong = ["**Wrong:**", "", *(f"- {sentence}" for sentence in result.wrong)]
    blocks.append(wrong if result.wrong else ["Nothing is wrong."])
    return [line for number, block in enumerate(blocks) for line in (["", *block] if number else block)]


def _request_row(one: Summary) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.count:,}",
        f"{one.errors:,}",
        *("-" if rate is None else f"{rate:.1f}" for rate in (one.rps, one.lowest_rps)),
        *(f"{ms:.0f} ms" for ms in (one.p50, one.p95, one.p99, one.most)),
    )


def _count_row(one: Count) -> tuple[str, ...]:
    return (one.what, *(f"{n:,}" for n in (one.expected, one.missing, one.extra, one.twice)))


def _memory_row(one: Memory) -> tuple[str, ...]:
    judged = "yes" if one.is_ours else "no"
    return (
        one.name,
        f"{one.trend.first:.1f}",
        f"{one.trend.last:.1f}",
        f"{one.trend.growth:+.1%}",
        judged,
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _circumstances(now: datetime) -> str:
    return (
        f"{now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores ({_processor()}), {_memory_gb():.0f} GB, "
        f"Python {platform.python_version()}, commit {_commit()}."
    )


def _commit() -> str:
    try:
        command = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
