"""docs/runbooks/*.md as data: sections, blocks of commands, and what each command is said to answer."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
#: Blocks of these languages hold commands; others hold output or files.
SHELLS = ("sh", "console")
_MARK = re.compile(r"^<!-- (run|not run): (.+?) -->$")
_ANSWER = re.compile(r"^# (good|bad|->):? +(.+)$")
_HEADING = re.compile(r"^(#{1,4}) (.+)$")


@dataclass(frozen=True, slots=True)
class Command:
    """``good`` and ``bad``: texts of which one stands in the output while all is well, and while it is not.
    ``says``: texts that all stand in it."""

    text: str
    line: int
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Commands below a heading. ``scene``: what is broken when they run; None: nothing. ``not_run``: why not."""

    section: str
    line: int
    scene: str | None
    not_run: str | None
    commands: tuple[Command, ...]


@dataclass(slots=True)
class Runbook:
    name: str
    sections: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def scenes(self) -> list[str]:
        """The scenes that its blocks ask for, in order, each once."""
        return list(dict.fromkeys(block.scene for block in self.blocks if block.scene))

    def during(self, scene: str | None, *sections: str) -> list[Block]:
        """The blocks that run in a scene (None: while all is well), of these sections (none: of all)."""
        return [
            block
            for block in self.blocks
            if block.scene == scene and not block.not_run and (not sections or block.section in sections)
        ]

    def during_check(self) -> list[Block]:
        """The blocks of its checks, whatever is broken."""
        return [block for block in self.blocks if block.section == "Check" and not block.not_run]


def read(path: Path) -> Runbook:
    book, section, mark = Runbook(path.name), "", None
    lines = path.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        if heading := _HEADING.match(line):
            if len(heading[1]) == 2:
                section = heading[2]
                book.sections.append(section)
        elif found := _MARK.match(line):
            mark = found
        elif line.startswith("```"):
            end = next(n for n in range(number + 1, len(lines)) if lines[n].strip() == "```")
            if line[3:] in SHELLS:
                book.blocks.append(_block(section, mark, lines[number + 1 : end], number + 2))
            mark, number = None, end
        elif line:
            mark = None
        number += 1
    return book


def _block(section: str, mark: re.Match[str] | None, lines: list[str], first: int) -> Block:
    told = {mark[1]: mark[2]} if mark else {}
    return Block(section, first, told.get("run"), told.get("not run"), tuple(_commands(lines, first)))


def _commands(lines: list[str], first: int) -> list[Command]:
    found: list[Command] = []
    text, began = "", 0
    for number, line in enumerate(lines, first):
        if not text and (answer := _ANSWER.match(line.strip())):
            last = found.pop()
            more = {"good": "good", "bad": "bad", "->": "says"}[answer[1]]
            values = {name: getattr(last, name) for name in ("good", "bad", "says")}
            values[more] = (*values[more], answer[2])
            found.append(Command(last.text, last.line, **values))
            continue
        if not text and (not line.strip() or line.lstrip().startswith("#")):
            continue
        began = began if text else number
        text += ("\n" if text else "") + line
        if _is_whole(text):
            found.append(Command(text.removeprefix("$ "), began))
            text = ""
    assert not text, f"line {began}: a command without an end"
    return found


def _is_whole(text: str) -> bool:
    if text.endswith("\\"):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def stands_in(expected: str, output: str) -> bool:
    """Whether the parts of a text, between its " ... ", stand in the output in this order, as whole words; spaces
    count as one."""
    place, told = 0, " ".join(output.split())
    for part in expected.split("..."):
        wanted = " ".join(part.split())
        before = r"(?<!\w)" if wanted[:1].isalnum() else ""
        after = r"(?!\w)" if wanted[-1:].isalnum() else ""
        found = re.compile(before + re.escape(wanted) + after).search(told, place)
        if found is None:
            return False
        place = found.end()
    return True
