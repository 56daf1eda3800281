"""`python -m notebooks`: run the notebooks of this folder again, in place, so that what they show is what they find."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

FOLDER = Path(__file__).parent
#: A cell may take this long, in seconds.
_TIMEOUT = 300


def executed(path: Path, splits: int | None = None) -> Any:
    """A notebook (nbformat's NotebookNode), run in a kernel of this Python from nothing; the file is left alone.
    ``splits``: so many, for a look. Raises CellExecutionError."""
    notebook = read(path)
    environment = {**os.environ, **({} if splits is None else {"NOTEBOOK_SPLITS": str(splits)})}
    with tempfile.TemporaryDirectory(prefix="notebook-") as sockets:
        client = NotebookClient(
            notebook,
            # Over sockets in a folder of our own, in place of ports that others could listen to.
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
            kernel_name="python3",
            timeout=_TIMEOUT,
            # Times of cells would differ in every run.
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute(env=environment)
    # Which Python ran it is no news, and would differ from machine to machine.
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def read(path: Path) -> Any:
    """As it is stored."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def main() -> int:
    for path in sorted(FOLDER.glob("*.ipynb")):
        print(f"running {path.name}", flush=True)  # noqa: T201  # this is a program's face
        try:
            nbformat.write(executed(path), path)  # type: ignore[no-untyped-call]
        except CellExecutionError as error:
            print(f"{path.name}: {error}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
