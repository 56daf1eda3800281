"""How far a backup or restore is, for a person who waits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def shown(show: bool) -> Iterator[tuple[Callable[[str], None], Callable[[str, int], None]]]:
    """Yields what to call when a step begins, and with a table's name and how many more of its rows are done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, disable=not show, transient=True) as progress:
        task = progress.add_task("begin")
        done: dict[str, int] = {}

        def step(name: str) -> None:
            progress.update(task, description=name)

        def rows(table: str, count: int) -> None:
            done[table] = done.get(table, 0) + count
            progress.update(task, description=f"ClickHouse {table}: {done[table]:,} rows")

        yield step, rows
