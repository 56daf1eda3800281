"""Real Chromium, driven by Playwright, against a live server."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, sync_playwright

from tests.services import ServiceMissing
from tests.telemetry.engines import missing

# Playwright's loop runs in this thread, which Django takes for an async context.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        missing(ServiceMissing("chromium is not installed: run `make services`"))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


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


@pytest.fixture
def console(browser: Browser, live_server: Any, transactional_db: None) -> Iterator[Console]:
    User.objects.create_superuser("admin", password="a-long-password")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    found = Console(page, live_server.url)
    page.on("console", lambda message: message.type == "error" and found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    # An image that is still on its way when the next page is asked for is aborted, not broken.
    page.on(
        "requestfailed",
        lambda request: (
            None
            if "ERR_ABORTED" in (request.failure or "")
            else found.complaints.append(f"failed: {request.url} {request.failure}")
        ),
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((live_server.url, "data:"))
            else found.complaints.append(f"foreign: {request.url}")
        ),
    )
    found.open("/admin/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "a-long-password")
    page.click("input[type=submit]")
    yield found
    page.close()
    assert found.complaints == []
