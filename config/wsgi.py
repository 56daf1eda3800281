import os

from django.apps import apps
from django.core.wsgi import get_wsgi_application

from config import apart

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# A process that was set up before it came here serves alone (config.embedded).
alone = apps.ready
apart.trace("selection-web")
application = get_wsgi_application()
if not alone:
    apart.begin_web()
apart.expect_decisions()
