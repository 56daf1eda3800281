from django.urls import path

from routing import api

urlpatterns = [
    path("selections", api.SelectionsView.as_view(), name="selections"),
    path("rankings", api.RankingsView.as_view(), name="rankings"),
]
