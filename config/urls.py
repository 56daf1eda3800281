from csp.constants import UNSAFE_INLINE
from csp.decorators import csp_update
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.defaults import page_not_found
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from catalog import problems
from observability.probes import healthz
from routing.health_api import MetricsView, readyz

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:overview")),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
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


@csrf_exempt  # it changes nothing, and a page about cookies is no answer to a program
def api_not_found(request: HttpRequest) -> HttpResponse:
    """Authors meet a wrong address first: it is a problem document, under DEBUG too."""
    return problems.not_found(request, Http404()) or HttpResponse(status=404)


urlpatterns.append(re_path(r"^api/", api_not_found))


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return problems.not_found(request, exception) or page_not_found(request, exception)
