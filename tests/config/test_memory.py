"""A process with many threads takes memory from few arenas."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

#: Prints how many arenas there are after 16 threads have each held memory at once.
_COUNT = """
import ctypes, tempfile, threading
{before}
barrier = threading.Barrier(16)
def work():
    kept = [bytes(1000 + n) for n in range(200)]
    barrier.wait(30)
threads = [threading.Thread(target=work) for _ in range(16)]
for one in threads: one.start()
for one in threads: one.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(open(file.name).read().count("<heap nr="))
"""


def arenas(before: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT.format(before=before)],
        env={"PYTHONPATH": ".", "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
def test_sixteen_threads_of_any_process_of_ours_share_two_arenas() -> None:
    assert arenas("import config") <= 2
    # Without it there are more: the test would notice if it did nothing.
    assert arenas("") > 2


def test_a_web_process_imports_nothing_that_only_workers_need(tmp_path: Path) -> None:
    code = (
        "import sys, config.wsgi; from django.urls import get_resolver; get_resolver().url_patterns;"
        "print(*sorted({'celery', 'kombu', 'httpx', 'chdb'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == []
