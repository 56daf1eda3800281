"""Whoever imports a task sends it to the product's broker, whatever else the process imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.celery import app


def test_every_task_is_of_the_products_app(tmp_path: Path) -> None:
    modules = sorted({entry["task"].rpartition(".")[0] for entry in app.conf.beat_schedule.values()})
    assert {"commandcenter.tasks", "overrides.tasks", "routing.tasks", "telemetry.tasks"} == {*modules}
    code = (
        "import importlib, sys, django; django.setup();"
        "module = importlib.import_module(sys.argv[1]);"
        "print({one.app.main for one in vars(module).values() if hasattr(one, 'apply_async')})"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path)}
    for module in modules:
        done = subprocess.run(
            [sys.executable, "-c", code, module],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == "{'selection'}", module


@pytest.mark.parametrize("name", ["task_prerun", "before_task_publish", "setup_logging"])
def test_who_imports_it_is_listened_to(name: str) -> None:
    from celery import signals

    assert any("observability.pulses" in str(key) for key, _ in getattr(signals, name).receivers)
