"""Every bench that can be run is on the benches' page, and what `make bench` runs is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "bench" / "README.md").read_text()


def runnable() -> set[str]:
    found = set()
    for path in (ROOT / "bench").rglob("*.py"):
        if '__name__ == "__main__"' in path.read_text() and path.parent.name != "inside":
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.add(".".join(part for part in parts if part != "__main__"))
    return found


def test_every_bench_is_on_the_page() -> None:
    told = set(re.findall(r"^\| `python -m (bench[\w.]*)", PAGE, re.MULTILINE))
    assert told == runnable()


def test_make_bench_runs_what_there_is_in_the_order_of_the_page() -> None:
    found = re.search(r"^BENCHES \?= (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    run = found[1].split()
    assert set(run) <= runnable()
    assert sorted(run, key=lambda name: re.search(rf"`python -m {name}`", PAGE).start()) == run  # type: ignore[union-attr]
