"""Migrations let the version before them go on: what a rolling restart and a rollback need."""

from typing import Any

import pytest
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from tests.ops.review import objections, review

#: Landed before there was a release that they could hinder, or looked at by somebody; with why.
ALLOWED = {
    "catalog.0003_roles_and_four_eyes": "before the first release",
    "catalog.0004_keys_by_prefix": "before the first release",
    "overrides.0003_audit_append_only": "triggers only refuse what no version does",
    "overrides.0005_ending_index": "before the first release",
    "routing.0004_selection_by_scope": "before the first release",
}


def test_no_migration_takes_anything_from_the_version_before_it() -> None:
    assert {name: told for name, told in review().items() if name not in ALLOWED} == {}


def test_what_is_allowed_is_still_there_to_be_allowed() -> None:
    assert set(ALLOWED) <= set(review())


def before() -> ProjectState:
    state = ProjectState()
    migrations.CreateModel(
        "Thing",
        [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=20, choices=[("a", "A")])),
            ("note", models.CharField(max_length=20, null=True)),
        ],
    ).state_forwards("catalog", state)
    return state


def told(*operations: Operation) -> list[str]:
    return list(objections("catalog", operations, before()))


def nothing(apps: Any, schema_editor: Any) -> None:
    pass


@pytest.mark.parametrize(
    "operation",
    [
        migrations.RemoveField("thing", "note"),
        migrations.RenameField("thing", "note", "remark"),
        migrations.RenameModel("Thing", "Other"),
        migrations.DeleteModel("Thing"),
        migrations.AlterModelTable("thing", "things"),
        migrations.AddField("thing", "more", models.IntegerField(default=0)),
        migrations.AlterField("thing", "note", models.CharField(max_length=20, default="")),
        migrations.AlterField("thing", "name", models.CharField(max_length=10)),
        migrations.AlterField("thing", "name", models.IntegerField()),
        migrations.AddIndex("thing", models.Index(fields=["name"], name="thing_by_name")),
        migrations.AddConstraint("thing", models.UniqueConstraint(fields=["name"], name="thing_once")),
        migrations.RunPython(nothing),
        migrations.RunPython(nothing, nothing),
        migrations.RunSQL("UPDATE thing SET name = 'a'", ""),
    ],
    ids=lambda operation: operation.describe()[:40],
)
def test_what_old_code_cannot_live_with_is_objected_to(operation: Operation) -> None:
    assert len(told(operation)) == 1


def test_what_only_adds_is_not_objected_to() -> None:
    index = models.Index(fields=["name"], name="thing_by_name")
    more: list[Any] = [("id", models.BigAutoField(primary_key=True)), ("x", models.IntegerField())]
    assert (
        told(
            migrations.AddField("thing", "more", models.IntegerField(null=True)),
            migrations.AddField("thing", "count", models.IntegerField(db_default=0)),
            migrations.AlterField("thing", "name", models.CharField(max_length=40, choices=[("b", "B")])),
            migrations.AlterField("thing", "name", models.CharField(max_length=40, null=True)),
            AddIndexConcurrently("thing", index),
            migrations.CreateModel("New", more),
            migrations.AddIndex("new", models.Index(fields=["x"], name="new_by_x")),
            migrations.AddConstraint("new", models.UniqueConstraint(fields=["x"], name="new_once")),
        )
        == []
    )
