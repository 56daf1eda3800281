"""What runbooks are held to: how their pages are read, and when an answer counts as the one that is written."""

from pathlib import Path

import pytest

from tests.runbooks.reading import Command, read, stands_in
from tests.runbooks.shell import Output, Shell
from tests.runbooks.test_runbooks import answered

PAGE = """# Broken

## Check

<!-- run: it-is-broken -->
```sh
look --at it
# good: active
# bad:  inactive
X=$(one "two
three") && \\
  four
```

## Fix

<!-- not run: takes a screwdriver -->
```sh
mend
# -> mended
```
"""


def test_a_page_is_read_as_blocks_with_their_scenes_and_commands_with_their_answers(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    book = read(tmp_path / "page.md")
    assert (book.sections, book.scenes()) == (["Check", "Fix"], ["it-is-broken"])
    [check] = book.during("it-is-broken", "Check")
    first, second = check.commands
    assert first == Command("look --at it", 7, good=("active",), bad=("inactive",))
    assert second.text == 'X=$(one "two\nthree") && \\\n  four'
    assert [(block.not_run, block.commands[0].says) for block in book.blocks if block.not_run] == [
        ("takes a screwdriver", ("mended",))
    ]
    assert book.during(None) == []


@pytest.mark.parametrize(
    ("expected", "output", "stands"),
    [
        ("active", "active", True),
        ("active", "inactive", False),
        ("spool: 0", "spool: 05 events", False),
        ("first ... second", "first,\n   then second", True),
        ("second ... first", "first, then second", False),
        ('"reason":"', '{"reason":"ranked"}', True),
        ("two  words", "two words", True),
    ],
)
def test_texts_stand_in_an_output_as_whole_words_and_in_order(
    expected: str, output: str, stands: bool
) -> None:
    assert stands_in(expected, output) is stands


def test_an_answer_counts_only_as_it_is_written_for_the_state() -> None:
    command = Command("look", 1, good=("active",), bad=("inactive", "failed"))
    assert answered(command, Output(3, "failed"), "bad")
    assert not answered(command, Output(0, "active"), "bad")
    assert answered(command, Output(0, "active"), "good")
    for output in (
        Output(0, "inactive"),
        Output(1, "active"),
        Output(0, "active, and failed"),
        Output(0, ""),
    ):
        assert not answered(command, output, "good")
    said = Command("mend", 1, says=("mended", "well"))
    assert answered(said, Output(0, "mended, all is well"), "done")
    assert not answered(said, Output(0, "mended"), "done")
    assert not answered(said, Output(1, "mended, all is well"), "done")


def test_a_shell_keeps_variables_gives_the_status_of_a_pipe_and_ends_what_hangs(tmp_path: Path) -> None:
    with Shell(tmp_path, {"PATH": "/usr/bin:/bin"}) as shell:
        assert shell.run("NAME=value; echo told >&2") == Output(0, "told\n")
        assert shell.run('echo "$NAME"; cat') == Output(0, "value\n")
        assert shell.run("false | cat").status == 1
        with pytest.raises(TimeoutError, match="sleep 30"):
            shell.run("echo begun; sleep 30", timeout=0.3)
