"""Every command of every runbook, run: while the thing is broken, to mend it, and to see it mended."""

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.runbooks.product import Product
from tests.runbooks.product import product as made
from tests.runbooks.reading import FOLDER, Block, Command, Runbook, read, stands_in
from tests.runbooks.scenes import SCENES, SEEN_AFTERWARDS
from tests.runbooks.shell import Output, Shell
from tests.services import ServiceMissing
from tests.telemetry.engines import missing

INDEX = FOLDER / "README.md"
BOOKS = {path.name: read(path) for path in sorted(FOLDER.glob("*.md"))}
PATIENCE = 90.0


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    try:
        with made(tmp_path_factory.mktemp("runbooks")) as one:
            yield one
    except ServiceMissing as reason:
        missing(reason)


def answered(command: Command, output: Output, state: str) -> bool:
    """Whether it answers as the page says for this state: ``bad``, ``good``, or anything (``done``)."""
    if not all(stands_in(text, output.text) for text in command.says):
        return False
    if state == "bad" and command.bad:
        return any(stands_in(text, output.text) for text in command.bad)
    if state == "bad":
        return True
    good = not command.good or any(stands_in(text, output.text) for text in command.good)
    return good and output.status == 0 and not any(stands_in(text, output.text) for text in command.bad)


def run(shell: Shell, blocks: list[Block], state: str, again: bool = True) -> None:
    """``again``: until it answers so, since healing and being noticed take seconds."""
    for block in blocks:
        for command in block.commands:
            began = time.monotonic()
            deadline = began + (PATIENCE if again else 0)
            while not answered(command, output := shell.run(command.text), state):
                if time.monotonic() >= deadline:
                    wanted = {"bad": command.bad, "good": command.good}.get(state, ()) + command.says
                    pytest.fail(
                        f"line {command.line}, while {state}:\n{command.text}\nstatus {output.status}\n"
                        f"{output.text}\nwanted: {wanted}"
                    )
                time.sleep(0.3)
            print(f"{time.monotonic() - began:5.1f} s, {state}: {command.text.splitlines()[0]}")  # noqa: T201


def order(case: tuple[str, str | None]) -> int:
    """The scene that needs old telemetry first, then what needs nothing broken, then the others."""
    scenes: list[str | None] = [*SCENES]
    return scenes.index(case[1]) * 2 if case[1] in SCENES else 1


CASES: list[tuple[str, str | None]] = sorted(
    [
        *((name, scene) for name, book in BOOKS.items() for scene in book.scenes()),
        *((name, None) for name, book in BOOKS.items() if book.during(None)),
    ],
    key=order,
)


@pytest.mark.parametrize(
    ("name", "scene"), CASES, ids=[f"{name}: {scene or 'all is well'}" for name, scene in CASES]
)
@pytest.mark.services
@pytest.mark.slow
def test_every_command_of_a_runbook_answers_as_written(
    product: Product, name: str, scene: str | None
) -> None:
    if scene != "no-traffic" and not product.fresh:
        product.freshen()
    if scene is None:
        all_is_well(product, BOOKS[name])
    else:
        broken_and_mended(product, BOOKS[name], scene)


def all_is_well(product: Product, book: Runbook) -> None:
    with product.shell() as shell:
        for block in book.during(None):
            run(shell, [block], "good", again=block.section in ("Check", "Verify"))


def broken_and_mended(product: Product, book: Runbook, scene: str) -> None:
    """Its checks see what is broken, its fix mends it, and both its checks and its verification see that."""
    checks = book.during(scene, "Check")
    if scene in SEEN_AFTERWARDS:
        with product.shell() as shell:
            run(shell, checks, "good")
    with SCENES[scene](product) as broken, product.shell(**broken.variables) as shell:
        run(shell, checks, "bad")
        broken.others()
        run(shell, book.during(scene, "Fix"), "done", again=False)
        run(shell, book.during(scene, "Verify"), "done")
        if scene not in SEEN_AFTERWARDS:
            run(shell, checks, "good")
        run(shell, book.during(scene, "Afterwards"), "done", again=False)


# What can be seen without running anything


def test_every_runbook_has_the_same_five_sections() -> None:
    sections = ["Symptoms", "Check", "Fix", "Verify", "Afterwards"]
    assert {name: book.sections for name, book in BOOKS.items() if name != INDEX.name} == {
        name: sections for name in BOOKS if name != INDEX.name
    }


def test_every_runbook_shows_what_a_good_and_a_bad_answer_look_like() -> None:
    def shows(book: Runbook) -> bool:
        commands = [command for block in book.during_check() for command in block.commands]
        return any(command.good and command.bad for command in commands)

    assert [name for name, book in BOOKS.items() if name != INDEX.name and not shows(book)] == []


def test_every_scene_is_one_that_is_played_and_every_played_one_is_used() -> None:
    assert {scene for _, scene in CASES if scene} == set(SCENES)


#: Blocks that no test can run, each with its reason on the page. Nothing joins them unnoticed.
NOT_RUN: dict[str, int] = {"README.md": 1}


def test_blocks_that_are_not_run_are_few_and_known() -> None:
    found = Counter(name for name, book in BOOKS.items() for block in book.blocks if block.not_run)
    assert dict(found) == NOT_RUN


def test_commands_stand_in_blocks_that_are_run() -> None:
    told = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for path in FOLDER.glob("*.md"):
        for language, text in told.findall(path.read_text()):
            assert language in ("sh", "console", "text", "json"), f"{path.name}: ```{language}"
            if language in ("text", "json"):
                assert not re.search(r"^\s*(\$|curl|python|systemctl|psql)\b", text, re.MULTILINE), path.name


def test_the_index_names_every_runbook() -> None:
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", INDEX.read_text()))
    assert linked >= set(BOOKS) - {INDEX.name}


def test_every_alert_leads_to_a_runbook_that_knows_it() -> None:
    rules = (FOLDER.parents[1] / "ops" / "prometheus" / "alerts.yml").read_text()
    alerts = re.findall(r"alert: (\w+).*?runbook_url: docs/runbooks/([a-z-]+\.md)", rules, re.DOTALL)
    assert len(alerts) == rules.count("- alert:") > 20
    for alert, name in alerts:
        assert f"`{alert}`" in (FOLDER / name).read_text(), f"{name} does not name {alert}"
        row = next(line for line in INDEX.read_text().splitlines() if f"`{alert}`" in line)
        assert row.endswith(f"[{name}]({name}) |")
