"""Real Chromium, driven by Playwright, against a live server."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from pytest_django.fixtures import Settings

from telemetry.clickhouse import close_clickhouse
from tests.services import ServiceMissing
from tests.telemetry.engines import missing

# Playwright's loop runs in this thread, which Django takes for an async context.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

#: Debian's Chromium without a window takes two thirds of the processor time of the one with a hidden window.
CHROMIUMS = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = next((path for path in CHROMIUMS if Path(path).exists()), None)
    if chromium is None:
        missing(ServiceMissing("chromium is not installed: run `make services`"))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(autouse=True)
def _no_clickhouse(settings: Settings) -> Iterator[None]:
    """Nothing listens there: pages must do without, and say so. Tests that show figures over time bring their own."""
    settings.CLICKHOUSE_URL = "clickhouse://127.0.0.1:1/selection"
    close_clickhouse()
    yield
    close_clickhouse()


@dataclass
class Console:
    """A signed-in admin's page, and everything that went wrong on it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.status == 200, path

    def listen(self) -> None:
        self.page.on("console", self._on_message)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", self._on_failure)

    def _on_message(self, message: ConsoleMessage) -> None:
        # A poll that is under way when the next page is asked for is aborted, and htmx tells of it.
        aborted = message.text.startswith(("htmx:afterRequest", "htmx:sendAbort", "htmx:sendError"))
        if message.type == "error" and not aborted:
            self.complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.complaints.append(f"foreign: {request.url}")

    def _on_failure(self, request: Request) -> None:
        # An image that is still on its way when the next page is asked for is aborted, not broken.
        if "ERR_ABORTED" not in (request.failure or ""):
            self.complaints.append(f"failed: {request.url} {request.failure}")


@pytest.fixture
def console(browser: Browser, live_server: Any, transactional_db: None) -> Iterator[Console]:
    User.objects.create_superuser("admin", password="a-long-password")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    found = Console(page, live_server.url)
    found.listen()
    found.open("/admin/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "a-long-password")
    page.click("input[type=submit]")
    yield found
    page.close()
    assert found.complaints == []
