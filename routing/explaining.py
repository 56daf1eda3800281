"""A stored decision, explained: for the API, the command and the admin."""

from typing import Any

import orjson

from routing.models import Selection
from routing.replay import replay


def explained(row: Selection) -> dict[str, Any]:
    """A stored decision, decided again from the archive: its candidates, and whether it came out equal."""
    told = replay(row)
    return {
        **orjson.loads(row.core),
        "candidates": told.candidates or [],
        "decided_by": row.source,
        "replay": told.to_dict(),
    }


def as_text(told: dict[str, Any]) -> str:
    """The same for people, as lines."""
    lines = [
        f"{told['profile']['slug']}  ({told['reason']}, decided by {told['decided_by']})",
        f"  {told['explanation']}",
        f"  {told['tenant']} x {told['persona']}, task {told['task']}, conversation {told['conversation_id']}",
        f"  decided at {told['decided_at']}, metrics {told['freshness']} as of {told['as_of']}",
        f"  bundle {told['bundle_version']}, propensity {told['propensity']:g}",
        f"  if it fails: {', '.join(told['fallback']) or 'nothing else'}",
        "",
    ]
    for card in told["candidates"]:
        rank = card["rank"] or "-"
        score = "" if card["score"] is None else f"{card['score']:.3f}"
        lost = card["contrast"]["sentence"] if card["contrast"] else "; ".join(card["why_not"])
        lines.append(f"  {rank:>3} {card['profile']:<26} {score:>6}  {lost}")
    lines += ["", told["replay"]["detail"]]
    return "\n".join(lines)
