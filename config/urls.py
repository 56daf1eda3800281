from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.defaults import page_not_found
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from catalog import problems
from routing.health_api import MetricsView, readyz

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("readyz", readyz, name="readyz"),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("api/v1/", include("telemetry.urls")),
    path("api/v1/", include("routing.urls")),
    path("api/v1/", include("overrides.urls")),
    path("api/schema/", SpectacularAPIView.as_view(authentication_classes=[]), name="schema"),
    path(
        "api/docs/",
        # Swagger UI sets styles of its own on elements; scripts stay strict, and no other page is relaxed.
        csp_update({"style-src": [UNSAFE_INLINE]})(
            SpectacularSwaggerSplitView.as_view(url_name="schema", authentication_classes=[])
        ),
        name="api-docs",
    ),
]


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problems.not_found(request, exception) or page_not_found(request, exception)
