"""The notebooks run from nothing, and what is stored of them is what a run shows, plots included."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from notebooks.__main__ import FOLDER, executed, read

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: Its file is read on GitHub, and kept in every clone.
MOST_BYTES = 400_000
PLOTS = {"cost_success_analysis": 6}


def shown(notebook: Any) -> list[list[str]]:
    """Of each cell of code, the kinds of what it shows."""
    return [
        [kind for output in cell.outputs for kind in sorted(output.get("data", {output.output_type: None}))]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_was_run_in_order_without_errors_and_holds_its_plots(path: Path) -> None:
    stored = read(path)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = Counter(kind for cell in shown(stored) for kind in cell)
    assert kinds["image/png"] == PLOTS[path.stem]
    assert not {"error", "stream"} & set(kinds)
    assert path.stat().st_size < MOST_BYTES
    assert str(ROOT) not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_nothing_and_shows_what_is_stored(path: Path) -> None:
    before = path.read_bytes()
    assert shown(executed(path, splits=2)) == shown(read(path))
    assert path.read_bytes() == before


def test_every_notebook_is_expected() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(PLOTS)
