"""`python -m load.comparing`: what conversations before and after the flag came to, by demo.report's figures, as JSON.

Runs in the product's environment, which this reads from ClickHouse through the product's own readers.
"""

import os
import sys
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    began, seed = datetime.fromisoformat(sys.argv[1]), sys.argv[2]
    sys.stdout.buffer.write(orjson.dumps(compared(began, seed)))
    return 0


def compared(began: datetime, seed: str) -> dict[str, Any]:
    """Each side, and the others less ``before``; estimates are value, lower, upper, or None: cannot be told."""
    # Nothing of the product can be imported before Django is set up.
    from django.utils import timezone

    from demo.catalogue import PERSONAS, TENANTS
    from demo.report.calls import Side, read_calls
    from demo.report.figures import change, side_of
    from routing.logged.scope import Scope, Span
    from telemetry.clickhouse import get_clickhouse

    scopes = [Scope(tenant, persona) for tenant in TENANTS for persona in PERSONAS]
    calls = read_calls(get_clickhouse(), scopes, Span.of(began, timezone.now()))
    sides = {side: side_of([call for call in calls if call.side is side], f"{seed}/{side}") for side in Side}
    return {
        "sides": {
            str(side): {
                "conversations": one.conversations,
                "completions": one.completions,
                "cost": _estimate(one.cost_per_completion),
                "success": _estimate(one.success),
                "p95": _estimate(one.p95),
                "reasons": dict(one.reasons),
            }
            for side, one in sides.items()
        },
        "changes": {
            str(side): {
                name: _estimate(getattr(change(sides[Side.BEFORE], sides[side]), name))
                for name in ("cost_share", "success", "p95")
            }
            for side in (Side.SELECTED, Side.HELD_OUT)
        },
    }


def _estimate(one: Any) -> dict[str, float] | None:
    return None if one is None else asdict(one)


if __name__ == "__main__":
    sys.exit(main())
