"""The Django database, whichever it is."""

from types import ModuleType

from django.db import connection

from ops.backup import postgres, sqlite

#: Rows in one of these mean that somebody uses it. Migrations fill none of them.
_TELLING = (
    "auth_user",
    "catalog_tenant",
    "overrides_auditentry",
    "routing_selection",
    "telemetry_scopeactivity",
    "telemetry_spoolbatch",
)


def engine() -> ModuleType:
    """The module for this database's engine: ``FILE``, ``server``, ``dump``, ``load``, ``others``, ``skip_ids``."""
    return postgres if connection.vendor == "postgresql" else sqlite


def is_used() -> bool:
    """Whether there is anything in it that a restore would destroy."""
    there = set(connection.introspection.table_names())
    with connection.cursor() as cursor:
        for table in there.intersection(_TELLING):
            cursor.execute(f"SELECT 1 FROM {table} LIMIT 1")  # noqa: S608  # names from above
            if cursor.fetchone():
                return True
    return False
