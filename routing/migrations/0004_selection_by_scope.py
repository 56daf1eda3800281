from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("routing", "0003_override_meter"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="selection",
            index=models.Index(
                condition=models.Q(("in_clickhouse", True)),
                fields=["tenant", "persona", "-decided_at"],
                name="selection_by_scope",
            ),
        ),
    ]
