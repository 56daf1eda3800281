"""A study: one policy and its baselines over splits of recorded conversations, with intervals. Pure."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil

from routing.priors import estimate
from routing.replaying.baselines import BASELINES, baselines
from routing.replaying.metrics import Figure, draws, figures, groups_of
from routing.replaying.outcomes import BadOutcomesError, Conversation, Recording, when
from routing.replaying.run import AT, Choice, Half, Policy, replay, seen_of
from routing.replaying.tally import Tally

Split = tuple[Half, Half]


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy comes to. Money in US dollars; ``shares`` of all conversations by model and ``reasons`` by rule,
    0 to 1; ``unsupported`` counts by model what was chosen but never recorded: no figure holds it. ``swaps`` are test
    halves where another model than the incumbent was given, ``swaps_worse`` those of them that succeeded more than two
    points less than the incumbent on the same conversations."""

    name: str
    conversations: int
    cost_usd: Decimal
    figures: Mapping[str, Figure]
    shares: Mapping[str, float]
    reasons: Mapping[str, float]
    unsupported: Mapping[str, int]
    splits: int
    splits_breaching: int
    breaches: Mapping[str, int]
    swaps: int
    swaps_worse: int

    @property
    def without_support(self) -> int:
        return sum(self.unsupported.values())


@dataclass(frozen=True, slots=True)
class Study:
    """The policy's result first, then the baselines'."""

    policy: Policy
    results: tuple[Result, ...]


def split(recording: Recording, splits: int, seed: int) -> list[Split]:
    """Training and test halves. 0 splits: one, by time, the earlier half to train; else halves drawn at random,
    each in order of time. Conversations elsewhere are parted at the same time, or drawn likewise. Raises
    BadOutcomesError with fewer than two conversations."""
    here, elsewhere = recording.conversations, recording.elsewhere
    if len(here) < 2:
        raise BadOutcomesError("there must be two conversations or more: one to train on, one to try")
    if splits == 0:
        half = len(here) // 2
        first = when(here[half])
        earlier = [c for c in elsewhere if when(c) < first]
        return [(Half(here[:half], earlier), Half(here[half:], elsewhere[len(earlier) :]))]
    found = []
    for number in range(splits):
        train, test = _drawn(here, f"{seed}/split/{number}")
        train_elsewhere, test_elsewhere = _drawn(elsewhere, f"{seed}/elsewhere/{number}")
        found.append((Half(train, train_elsewhere), Half(test, test_elsewhere)))
    return found


def _drawn(conversations: Sequence[Conversation], seed: str) -> tuple[list[Conversation], list[Conversation]]:
    """Two halves drawn at random, each in the order given."""
    draw = random.Random(seed)  # noqa: S311  # reproducible on purpose
    first = set(draw.sample(range(len(conversations)), len(conversations) // 2))
    return (
        [c for i, c in enumerate(conversations) if i in first],
        [c for i, c in enumerate(conversations) if i not in first],
    )


def asked_of(policy: Policy, models: Sequence[str], train: Half) -> Policy:
    """The policy with an SLA that the incumbent meets as the training half shows it, if ``within`` is given: success at
    most so much below its own, p95 and safety as asked, or its own where that is worse."""
    if policy.within is None:
        return policy
    sla = policy.rules.sla
    evidence = seen_of(models, train).evidence(AT, sla.max_latency_p95_ms)
    usual = next(item for item in evidence if item.profile == policy.incumbent)
    day, priors = usual.day, usual.priors
    rate = estimate(day.successes, day.requests, priors.success)
    unsafe = estimate(day.safety_violations, day.requests, priors.unsafe)
    kept = replace(
        sla,
        min_success_rate=0.0 if rate is None else max(rate - policy.within, 0.0),
        max_latency_p95_ms=max(sla.max_latency_p95_ms, ceil(day.latency_p95_ms or 0)),
        max_safety_violation_rate=max(sla.max_safety_violation_rate, unsafe or 0.0),
    )
    return replace(policy, rules=replace(policy.rules, sla=kept))


def work_of(recording: Recording, splits: int, resamples: int) -> int:
    """How often ``study`` ticks."""
    count = len(recording.conversations)
    return max(splits, 1) * (count - count // 2) + resamples * (1 + len(BASELINES))


def study(
    recording: Recording,
    policy: Policy,
    *,
    splits: int = 0,
    seed: int = 0,
    resamples: int = 1000,
    tick: Callable[[], None] = lambda: None,
) -> Study:
    """Replay the policy and its baselines on the test half of each split. The same arguments give the same study.

    Raises BadOutcomesError when the incumbent has no recorded outcome, or there is too little to split.
    """
    if policy.incumbent not in recording.models:
        raise BadOutcomesError(f"the incumbent '{policy.incumbent}' has no recorded outcome")
    halves = split(recording, splits, seed)
    tested = {conversation.prompt_id for _, test in halves for conversation in test.here}
    group_of, groups = groups_of(sorted(tested), str(seed))
    tallies = {name: Tally(group_of, groups) for name in ("policy", *BASELINES)}
    for number, (train, test) in enumerate(halves):
        salt = f"{seed}/{number}"
        asked = asked_of(policy, recording.models, train)
        sla = asked.rules.sla
        choices = _replayed(asked, recording.models, train, test, salt, tick)
        beside = baselines(recording.models, policy.incumbent, sla, train.here, test.here, salt)
        for name, made in {"policy": choices, **beside}.items():
            tallies[name].add(made, beside["oracle"], beside["incumbent"], sla)
    drawn = draws(groups, resamples, str(seed))
    return Study(policy, tuple(_result(name, tally, drawn, tick) for name, tally in tallies.items()))


def _replayed(
    policy: Policy,
    models: Sequence[str],
    train: Half,
    test: Half,
    salt: str,
    tick: Callable[[], None],
) -> list[Choice]:
    made = []
    for choice in replay(policy, models, train, test, salt):
        made.append(choice)
        tick()
    return made


def _result(name: str, tally: Tally, drawn: Sequence[Sequence[int]], tick: Callable[[], None]) -> Result:
    total = tally.given.total()
    return Result(
        name=name,
        conversations=total,
        cost_usd=tally.cost_usd,
        figures=figures(tally, drawn, tick),
        shares={model: count / total for model, count in sorted(tally.given.items())},
        reasons={reason: count / total for reason, count in sorted(tally.reasons.items())},
        unsupported=dict(sorted(tally.unsupported.items())),
        splits=tally.splits,
        splits_breaching=tally.splits_breaching,
        breaches=dict(sorted(tally.breaches.items())),
        swaps=tally.swaps,
        swaps_worse=tally.swaps_worse,
    )
