"""Django's sessions in the database, with an age that counts from signing in.

Django's own counts from the last change of the session, so one in use would never end.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends import db
from django.utils import timezone

_BEGAN = "_began"


class SessionStore(db.SessionStore):
    """The session of somebody who signed in ends ``SESSION_COOKIE_AGE`` after that."""

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        now = timezone.now()
        if SESSION_KEY in data:
            data.setdefault(_BEGAN, int(now.timestamp()))
        row = super().create_model_instance(data)
        if _BEGAN in data:
            began = datetime.fromtimestamp(data[_BEGAN], UTC)
            row.expire_date = min(row.expire_date, began + timedelta(seconds=settings.SESSION_COOKIE_AGE))
        return row
