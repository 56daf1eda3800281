"""Where time goes, of py-spy's stacks; how long commands take, of hyperfine's report."""

from bench.commands import lines
from bench.serving_profile import hottest

STACKS = """\
_runner (granian/wsgi.py:57);select (routing/selection.py:33);decide (routing/engine.py:10) 6
_runner (granian/wsgi.py:57);select (routing/selection.py:40) 3
_runner (granian/wsgi.py:57);walk (a.py:1);walk (a.py:2) 1
"""


def test_a_function_is_all_its_lines_by_itself_and_with_what_it_calls() -> None:
    told = hottest(STACKS)
    own, total = told[: told.index("with what it calls")], told[told.index("with what it calls") :]
    assert "  60.0%  decide (routing/engine.py)" in own
    assert "  30.0%  select (routing/selection.py)" in own
    assert "  90.0%  select (routing/selection.py)" in total
    assert " 100.0%  _runner (granian/wsgi.py)" in total


def test_a_function_that_calls_itself_is_counted_once() -> None:
    assert "  10.0%  walk (a.py)" in hottest(STACKS)[-1]


def test_only_so_many_are_told_and_nothing_of_nothing() -> None:
    assert len([line for line in hottest(STACKS, most=1) if "%" in line]) == 2
    assert hottest("") == ["no samples"]


def test_a_stack_without_python_says_so() -> None:
    assert "(no Python in it)" in hottest(": 4")[-1]


def test_hyperfines_runs_are_a_commands_rounds() -> None:
    one = {"command": "manage.py check", "times": [1.5, 1.0, 2.0], "user": 0.75, "system": 0.25}
    wall, cpu = lines({"results": [one]})
    assert (wall.name, wall.median, wall.rounds, wall.unit) == ("manage.py check", 1.5, (1.5, 1.0, 2.0), "s")
    assert (cpu.name, cpu.median) == ("manage.py check, CPU", 1.0)
