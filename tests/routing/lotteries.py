"""Policies that leave something to chance, for tests of chances; a test names only what matters to it."""

from hypothesis import strategies as st

from routing.engine import Bundle, BundlePersona, FlagState, SelectionRequest, Standing, StandingOverride
from routing.scoring import Evidence
from routing.standing import Kind
from tests.routing.cases import bundle, evidence, pools, profile, request, wild_evidence

SHARES = st.sampled_from([0.0, 0.02, 0.3, 1.0])


@st.composite
def lotteries(draw: st.DrawFn) -> tuple[Bundle, SelectionRequest]:
    """Any scores, shares, flag and overrides, and a request that may exclude, and may have had a profile before."""
    items: list[Evidence] = draw(st.one_of(pools(), pools(wild_evidence)))
    slugs = [item.profile for item in items]
    persona = BundlePersona("essayist", True, "incumbent", draw(SHARES), draw(SHARES), draw(SHARES))
    kinds = draw(st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from(slugs)), max_size=2))
    overrides = tuple(StandingOverride(n, kind, slug) for n, (kind, slug) in enumerate(kinds))
    gone = draw(st.sampled_from([None, "p0", "incumbent"]))
    made = bundle(
        *items,
        personas={"essayist": persona},
        flag=FlagState(None, percent=draw(st.sampled_from([0.0, 40.0, 100.0]))),
        standing=Standing(overrides, killed_all=draw(st.sampled_from([False, False, False, True]))),
        profiles=[profile(slug, enabled=slug != gone) for slug in slugs],
    )
    return made, request(
        f"c-{draw(st.integers(0, 10_000))}",
        exclude=tuple(draw(st.lists(st.sampled_from(slugs), max_size=2, unique=True))),
        last_profile=draw(st.sampled_from([None, *slugs])),
    )


def lottery(
    best: str = "main",
    exploration: float = 0.3,
    holdout: float = 0.3,
    margin: float = 0.0,
    percent: float = 100.0,
    seen: int = 5,
) -> Bundle:
    """incumbent is the default; main and other meet the SLA, ``best`` of them wins; new has been ``seen`` so often, and
    would beat both. ``margin``: conversations keep their profile while it is less than this behind the best."""
    costs = {"main": "0.005", "other": "0.005", best: "0.004"}
    return bundle(
        evidence("incumbent", cost="0.02"),
        *(evidence(slug, cost=cost) for slug, cost in costs.items()),
        evidence("new", n=seen, cost="0.001"),
        personas={"essayist": BundlePersona("essayist", True, "incumbent", exploration, holdout, margin)},
        flag=FlagState(None, percent=percent, salt="s"),
    )
