"""What a migration may not do while the version before it still serves (docs/operations.md, Migrations).

Old code reads and writes the new tables during a rolling restart, and after a rollback. So migrations add: columns that
old code need not know, tables, and what does not hold a table's lock for long.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.apps import apps
from django.contrib.postgres.operations import AddConstraintNotValid, AddIndexConcurrently
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from config.env import BASE_DIR

_HARMLESS = (
    migrations.CreateModel,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
    AddIndexConcurrently,
    AddConstraintNotValid,
)


def objections(app: str, operations: Sequence[Operation], state: ProjectState) -> Iterator[str]:
    """What is wrong with a migration's operations, one sentence each. ``state`` is before them, and moves on."""
    made: set[str] = set()
    for operation in operations:
        if isinstance(operation, migrations.CreateModel):
            made.add(operation.name.lower())
        elif reason := _objection(app, operation, state, made):
            yield f"{_named(operation)}: {reason}"
        operation.state_forwards(app, state)


def _named(operation: Operation) -> str:
    of = getattr(operation, "model_name", None) or getattr(operation, "name", "")
    field = getattr(operation, "name", "") if hasattr(operation, "model_name") else ""
    return " ".join(filter(None, (type(operation).__name__, str(of).lower(), field)))


def _objection(app: str, operation: Operation, state: ProjectState, made: set[str]) -> str | None:
    if not operation.reversible:
        return "it cannot be undone"
    # Nobody uses a table that this very migration makes.
    if isinstance(operation, _HARMLESS) or (getattr(operation, "model_name", None) or "").lower() in made:
        return None
    match operation:
        case migrations.AddField():
            return _added(operation.field)
        case migrations.AlterField():
            return _altered(app, operation, state)
        case migrations.AddIndex():
            return "it holds up writers while it is built: AddIndexConcurrently does not"
        case migrations.AddConstraint():
            return "it reads the whole table under a lock: AddConstraintNotValid, then ValidateConstraint"
        case migrations.RunPython() | migrations.RunSQL() | migrations.SeparateDatabaseAndState():
            return "somebody must see that old code can live with it, and that it takes no long lock"
    return "old code still needs what it takes away"


def _added(field: "models.Field[object, object]") -> str | None:
    if field.null or field.many_to_many or field.has_db_default():
        return None
    return "old code inserts rows without it: null=True, or db_default"


def _altered(app: str, operation: migrations.AlterField, state: ProjectState) -> str | None:
    after = state.clone()
    operation.state_forwards(app, after)
    old, new = (
        one.apps.get_model(app, operation.model_name)._meta.get_field(operation.name)
        for one in (state, after)
    )
    editor: Any = connection.schema_editor()
    if not editor._field_should_be_altered(old, new):
        return None  # choices, help texts: nothing in the database
    if type(old) is type(new) and _is_wider(old, new):
        return None
    return (
        "old code may not be able to read or write it: add another column, and drop this one a release later"
    )


def _is_wider(old: "models.Field[object, object]", new: "models.Field[object, object]") -> bool:
    """Whether nothing but a text's greatest length goes up, or NULL becomes allowed."""
    *_, before = old.deconstruct()
    *_, after = new.deconstruct()
    told = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    longer = (new.max_length or 0) >= (old.max_length or 0)
    return told <= {"max_length", "null", "choices", "help_text"} and longer and new.null >= old.null


def review() -> dict[str, list[str]]:
    """Objections to every migration of ours after its app's first, by ``app.name``."""
    loader = MigrationLoader(None)
    ours = {config.label for config in apps.get_app_configs() if Path(config.path).parent == BASE_DIR}
    found = {}
    for app, name in sorted(loader.disk_migrations):
        if app in ours and not name.startswith("0001_"):
            state = loader.project_state((app, name), at_end=False)
            told = list(objections(app, loader.disk_migrations[app, name].operations, state))
            if told:
                found[f"{app}.{name}"] = told
    return found
