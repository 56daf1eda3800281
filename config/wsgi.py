import os
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config import apart

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# A process that was set up before it came here serves alone (config.embedded).
alone = apps.ready
apart.trace("selection-web")
application: Any = get_wsgi_application()
if settings.SELECTION_FRONT and not settings.OTLP_ENDPOINT:
    from config.front import Front  # its models are there only now

    # Traces begin in Django's handler: whoever wants them gets them of every request.
    application = Front(application)
if not alone:
    apart.begin_web()
apart.expect_decisions()
