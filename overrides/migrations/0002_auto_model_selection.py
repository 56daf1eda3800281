"""The flag exists from the start, off, so that admins find it to flip."""

from django.db import migrations

NAME = "AUTO_MODEL_SELECTION_ENABLED"
NOTE = "Automatic model selection. Off: every conversation gets its scope's default profile."


def make(apps, schema_editor):
    apps.get_model("overrides", "Flag").objects.get_or_create(
        name=NAME, defaults={"note": NOTE, "superusers": False}
    )


def remove(apps, schema_editor):
    apps.get_model("overrides", "Flag").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    dependencies = [("overrides", "0001_initial")]
    operations = [migrations.RunPython(make, remove)]
