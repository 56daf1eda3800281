"""Prices: which revision was in force, and what a completion cost by it.

Pure but for ``load_price_book``.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from catalog.models import PriceRevision

#: Costs are kept to a billionth of a dollar, the scale of ClickHouse's column.
COST_STEP = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per 1,000 tokens."""

    prompt_per_1k: Decimal
    completion_per_1k: Decimal
    cached_per_1k: Decimal | None

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int | None) -> Decimal:
        """US dollars; cached tokens are part of the prompt's, and priced as such when no price is set."""
        cached = min(cached_tokens or 0, prompt_tokens)
        cached_price = self.prompt_per_1k if self.cached_per_1k is None else self.cached_per_1k
        total = (
            (prompt_tokens - cached) * self.prompt_per_1k
            + cached * cached_price
            + completion_tokens * self.completion_per_1k
        )
        return (total / 1000).quantize(COST_STEP, ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Every revision of every profile, in order of time."""

    revisions: Mapping[str, tuple[tuple[datetime, ...], tuple[Price, ...]]]

    def in_force(self, profile: str, at: datetime) -> Price | None:
        """The newest revision valid at a time; None when the price then is unknown."""
        if profile not in self.revisions:
            return None
        starts, prices = self.revisions[profile]
        index = bisect_right(starts, at) - 1
        return prices[index] if index >= 0 else None


def load_price_book() -> PriceBook:
    """Read all revisions in one query."""
    starts: dict[str, list[datetime]] = {}
    prices: dict[str, list[Price]] = {}
    rows = PriceRevision.objects.order_by("profile__slug", "valid_from").values_list(
        "profile__slug", "valid_from", "prompt_per_1k", "completion_per_1k", "cached_per_1k"
    )
    for slug, valid_from, prompt, completion, cached in rows:
        starts.setdefault(slug, []).append(valid_from)
        prices.setdefault(slug, []).append(Price(prompt, completion, cached))
    return PriceBook({slug: (tuple(starts[slug]), tuple(prices[slug])) for slug in starts})
