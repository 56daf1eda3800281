"""Values of rows as JSON values."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Model


def plain(value: Any) -> Any:
    """Decimals as strings without the zeros of their column, times in ISO form, rows by their names."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Model) else value
