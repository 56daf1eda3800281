"""The commands of training, upgrade guide and checklist exist, and take the options that they are given."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from config import embedded
from config.celery import app
from tests.runbooks.reading import read

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ["training.md", "upgrade.md", "rollout-checklist.md", "runbooks/README.md"]


def commands(name: str) -> list[str]:
    blocks = read(DOCS / name).blocks
    return [command.text for block in blocks for command in block.commands]


def managed(text: str) -> list[list[str]]:
    """Arguments of each ``manage.py`` in a line, up to a pipe."""
    # What stands for a name of yours is one word.
    text = re.sub(r"<[^>]+>", "yours", text)
    parts = re.split(r"\|| && |;", text)
    return [shlex.split(part)[2:] for part in parts if part.strip().startswith("python manage.py")]


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_of_a_guide_is_one_that_there_is_with_these_options(name: str) -> None:
    found = [arguments for text in commands(name) for arguments in managed(text)]
    for command, *arguments in found:
        known = load_command_class(get_commands()[command], command)
        # Raises CommandError when it does not take them.
        known.create_parser("manage.py", command).parse_args(arguments)
    assert found or name == "runbooks/README.md"


def test_a_wrong_option_would_be_noticed() -> None:
    [[command, *arguments]] = managed('python manage.py flag explode --reason "it is a test"')
    known = load_command_class(get_commands()[command], command)
    with pytest.raises(Exception, match="invalid choice"):
        known.create_parser("manage.py", command).parse_args(arguments)


def test_the_course_starts_the_product_as_it_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = [text for text in commands("training.md") if "config.embedded" in text]
    monkeypatch.setattr(sys, "argv", shlex.split(line)[2:])
    assert embedded._options().demo
    assert "DEPLOYMENT_MODE=TRAINING" in " ".join(commands("training.md"))


@pytest.mark.parametrize("name", ["training.md", "upgrade.md", "rollout-checklist.md"])
def test_inline_commands_of_a_guide_exist(name: str) -> None:
    told = re.findall(r"`(?:python )?manage\.py ([a-z_]+)", (DOCS / name).read_text())
    assert told
    assert set(told) <= set(get_commands())


def test_the_telemetry_page_tells_how_often_tasks_run() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) (s|h) \|", (DOCS / "telemetry.md").read_text(), re.MULTILINE)
    told = {name: int(number) * {"s": 1, "h": 3600}[unit] for name, number, unit in rows}
    beat = {one["task"].rpartition(".")[2]: one["schedule"] for one in app.conf.beat_schedule.values()}
    assert len(told) >= 6
    assert told == {name: beat[name] for name in told}
