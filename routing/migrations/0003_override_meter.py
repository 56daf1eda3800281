import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("overrides", "0002_overrides"),
        ("routing", "0002_selections"),
    ]

    operations = [
        migrations.CreateModel(
            name="OverrideMeter",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("measured_at", models.DateTimeField(db_index=True, help_text="UTC.")),
                (
                    "figures",
                    models.JSONField(help_text="As GET /api/v1/settings/overrides/{id}/regret gives them."),
                ),
                (
                    "override",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="meter",
                        to="overrides.override",
                    ),
                ),
            ],
            options={"ordering": ["-measured_at"]},
        ),
    ]
