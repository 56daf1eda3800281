import re
from pathlib import Path

from routing.engine import Reason

ROOT = Path(__file__).parents[2]
HEADINGS = set(re.findall(r"^### `([a-z_]+)`$", (ROOT / "docs" / "decisions.md").read_text(), re.MULTILINE))
RAISED = "".join((ROOT / "routing" / name).read_text() for name in ("engine.py", "choosing.py"))
PROBLEMS = set(re.findall(r'SelectionProblem\(\s*\d{3},\s*"([a-z_]+)"', RAISED))


def test_every_reason_and_problem_has_a_heading_and_every_heading_is_one() -> None:
    assert len(PROBLEMS) == 6
    assert {reason.value for reason in Reason} | PROBLEMS == HEADINGS
