"""Every count and duration that processes keep themselves; docs/metrics.md tells what each is.

Labels are bounded: names from our code, never a tenant, persona, profile or conversation. A meter is made when it is
first used, so that a process can decide before whether it shares (observability.sharing).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

# A series more for each, of when it was made, that nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

_DECISION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TASK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_CLICKHOUSE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Bound:
    """A metric's children by label values, each looked up once: ``labels()`` takes a lock and builds a tuple."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], Any] = {}

    def __call__(self, *values: str) -> Any:
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child


def observe_all(histogram: Any, amounts: list[float]) -> None:
    """What ``observe`` of each would do, at a fraction of its cost. prometheus_client has no such call, so this reaches
    into a histogram as its own ``observe`` does in the pinned version. Sorts ``amounts``."""
    if not amounts:
        return
    amounts.sort()
    histogram._sum.inc(sum(amounts))
    counted = 0
    for bound, bucket in zip(histogram._upper_bounds, histogram._buckets, strict=True):
        up_to = bisect_right(amounts, bound)
        if up_to > counted:
            bucket.inc(up_to - counted)
            counted = up_to
        if counted == len(amounts):
            break


class Meters:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.decisions = self._counter(
            "selection_decisions", "Decisions by rule and by who made them.", "reason", "source"
        )
        self.decision_seconds = self._histogram(
            "selection_decision_seconds",
            "Deciding and committing, as the service does it.",
            _DECISION_BUCKETS,
        )()
        self.requests = self._counter(
            "selection_http_requests", "HTTP requests answered.", "method", "route", "status"
        )
        self.request_seconds = self._histogram(
            "selection_http_request_seconds",
            "From the first middleware to the answer.",
            _HTTP_BUCKETS,
            "route",
        )
        self.events = self._counter("selection_events_ingested", "Completion events judged.", "result")
        self.tasks = self._counter("selection_tasks", "Celery tasks ended.", "task", "state")
        self.task_seconds = self._histogram(
            "selection_task_seconds", "Celery tasks, how long they ran.", _TASK_BUCKETS, "task"
        )
        self.clickhouse_seconds = self._histogram(
            "selection_clickhouse_query_seconds",
            "Calls of ClickHouse, failed ones too.",
            _CLICKHOUSE_BUCKETS,
            "operation",
        )
        self.clickhouse_errors = self._counter(
            "selection_clickhouse_errors", "Calls of ClickHouse that failed.", "operation", "error"
        )

    def _counter(self, name: str, text: str, *labels: str) -> _Bound:
        return _Bound(Counter(name, text, labels, registry=self.registry))

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Callable[..., Any]:
        metric = Histogram(name, text, labels, registry=self.registry, buckets=list(buckets))
        return _Bound(metric) if labels else lambda: metric


@cache
def meters() -> Meters:
    """This process's."""
    return Meters()
