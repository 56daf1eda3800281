"""Database triggers: audit entries are added, never changed or deleted, whoever asks."""

from django.db import migrations

MESSAGE = "audit entries are append-only"

SQLITE = [
    f"CREATE TRIGGER audit_no_{what} BEFORE {what.upper()} ON overrides_auditentry "
    f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
    for what in ("update", "delete")
]
SQLITE_BACK = [f"DROP TRIGGER IF EXISTS audit_no_{what}" for what in ("update", "delete")]

_FUNCTION = f"""
CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$
"""
_TRIGGER = """
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON overrides_auditentry
FOR EACH ROW EXECUTE FUNCTION audit_append_only()
"""
POSTGRES = [_FUNCTION, _TRIGGER]
POSTGRES_BACK = [
    "DROP TRIGGER IF EXISTS audit_append_only ON overrides_auditentry",
    "DROP FUNCTION IF EXISTS audit_append_only()",
]

STATEMENTS = {"sqlite": (SQLITE, SQLITE_BACK), "postgresql": (POSTGRES, POSTGRES_BACK)}


def forward(apps, schema_editor):
    for statement in STATEMENTS[schema_editor.connection.vendor][0]:
        schema_editor.execute(statement)


def backward(apps, schema_editor):
    for statement in STATEMENTS[schema_editor.connection.vendor][1]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("overrides", "0002_overrides")]
    operations = [migrations.RunPython(forward, backward)]
