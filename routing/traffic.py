"""How many conversations each scope has, from what they were given last: the Django database only."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count

from routing.comparing import Key, tasks_of
from routing.models import ConversationSelection, Selection

_HOURS = 24
#: More tenants than this are sorted out here: a database takes only so many parameters.
_MOST_NAMED = 500


@dataclass(frozen=True, slots=True)
class Traffic:
    """Conversations per hour whose last decision is of the trailing 24 hours. ``tasks``: those that were counted apart,
    by the scope's tenant and persona as overrides name them; None: none were."""

    scopes: dict[tuple[str, str], float]
    by_task: dict[Key, float] = field(default_factory=dict)
    tasks: dict[tuple[str | None, str | None], set[str]] | None = None

    @property
    def total(self) -> float:
        """Of all scopes together."""
        return sum(self.scopes.values())

    def per_hour(self, key: Key) -> float:
        """Of one scope; of the task, or of all tasks that no override names."""
        if key.task is not None:
            return self.by_task.get(key, 0.0)
        whole = self.scopes.get((key.tenant, key.persona), 0.0)
        if self.tasks is None:
            return whole
        named = tasks_of(self.tasks, key.tenant, key.persona)
        # A conversation's decision may be pruned before the conversation is, never counted twice.
        return max(whole - sum(self.by_task.get(key._replace(task=task), 0.0) for task in named), 0.0)


def read_traffic(
    now: datetime,
    tenants: frozenset[str] | None,
    tasks: dict[tuple[str | None, str | None], set[str]] | None = None,
) -> Traffic:
    """Of these tenants (None: all), in one query, or two when ``tasks`` are to be told apart."""
    since = now - timedelta(hours=_HOURS)
    recent = ConversationSelection.objects.filter(decided_at__gt=since, decided_at__lte=now)
    if tenants is not None and len(tenants) <= _MOST_NAMED:
        recent = recent.filter(tenant__in=tenants)
    counted = recent.order_by().values_list("tenant", "persona").annotate(n=Count("id"))
    scopes = {
        (tenant, persona): n / _HOURS
        for tenant, persona, n in counted
        if tenants is None or tenant in tenants
    }
    if tasks is None:
        return Traffic(scopes)
    # A conversation has no task, the decision that it was given last has.
    named = set().union(*tasks.values())
    last = Selection.objects.filter(decision_id__in=recent.values("decision_id"))
    rows = last.order_by().values_list("tenant", "persona", "task").annotate(n=Count("id"))
    by_task = {Key(t, p, task): n / _HOURS for t, p, task, n in rows if task in named}
    return Traffic(scopes, by_task, tasks)
