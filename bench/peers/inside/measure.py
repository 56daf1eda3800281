"""`measure.py MODULE:FUNCTION`: the function gives an operation, called over and over for as many seconds as each line
of the standard input says; a line of JSON on the standard output for each."""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable


def measure(operation: Callable[[int], object], seconds: float) -> dict[str, float]:
    """Call it with 0, 1, 2, ... An exception is an error, and counts among the calls."""
    for n in range(50):
        operation(n)
    times: list[int] = []
    errors, n = 0, 0
    spent, began = _cpu(), time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter_ns()
        try:
            operation(n)
        except Exception:  # noqa: BLE001  # whatever it is, it is counted
            errors += 1
        times.append(time.perf_counter_ns() - started)
        n += 1
    took, spent = time.perf_counter() - began, _cpu() - spent
    times.sort()
    return {
        "calls": n,
        "seconds": took,
        "errors": errors,
        "p50_us": times[n // 2] / 1000,
        "p99_us": times[min(n * 99 // 100, n - 1)] / 1000,
        "cpu_us": spent / n * 1e6,
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    operation = getattr(importlib.import_module(module), function)()
    for line in sys.stdin:
        print(json.dumps(measure(operation, float(line))), flush=True)


if __name__ == "__main__":
    main()
