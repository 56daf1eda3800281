"""Service keys get their prefix as id: the library's ids hold the key's hash, and ids stand in addresses."""

from django.db import migrations
from django.db.models import OuterRef, Subquery


def by_prefix(apps, schema_editor):
    key = apps.get_model("catalog", "ServiceKey")
    bound = key.tenants.through
    rows = key.objects.using(schema_editor.connection.alias)
    # Foreign keys are checked when the transaction ends, on SQLite and PostgreSQL.
    prefix = rows.filter(pk=OuterRef("servicekey_id")).values("prefix")[:1]
    bound.objects.using(schema_editor.connection.alias).update(servicekey_id=Subquery(prefix))
    for pk, prefix in rows.values_list("pk", "prefix"):
        rows.filter(pk=pk).update(id=prefix)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0003_roles_and_four_eyes")]

    operations = [migrations.RunPython(by_prefix, migrations.RunPython.noop, elidable=True)]
