"""A study: one policy and its baselines over splits of recorded conversations, with intervals. Pure."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from routing.replaying.baselines import BASELINES, baselines
from routing.replaying.metrics import Figure, draws, figures, groups_of
from routing.replaying.outcomes import BadOutcomesError, Conversation, Recording
from routing.replaying.run import Choice, Policy, replay
from routing.replaying.tally import Tally

Split = tuple[list[Conversation], list[Conversation]]


@dataclass(frozen=True, slots=True)
class Result:
    """What one policy comes to. Money in US dollars; ``shares`` of all conversations by model and ``reasons`` by rule,
    0 to 1; ``unsupported`` counts by model what was chosen but never recorded: no figure holds it."""

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

    @property
    def without_support(self) -> int:
        return sum(self.unsupported.values())


@dataclass(frozen=True, slots=True)
class Study:
    """The policy's result first, then the baselines'."""

    policy: Policy
    results: tuple[Result, ...]


def split(conversations: Sequence[Conversation], splits: int, seed: int) -> list[Split]:
    """Training and test halves. 0 splits: one, by time, the earlier half to train; else halves drawn at random,
    each in order of time. Raises BadOutcomesError with fewer than two conversations."""
    if len(conversations) < 2:
        raise BadOutcomesError("there must be two conversations or more: one to train on, one to try")
    half = len(conversations) // 2
    if splits == 0:
        return [(list(conversations[:half]), list(conversations[half:]))]
    found = []
    for number in range(splits):
        draw = random.Random(f"{seed}/split/{number}")  # noqa: S311  # reproducible on purpose
        train = set(draw.sample(range(len(conversations)), half))
        found.append(
            (
                [c for i, c in enumerate(conversations) if i in train],
                [c for i, c in enumerate(conversations) if i not in train],
            )
        )
    return found


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
    halves = split(recording.conversations, splits, seed)
    tested = {conversation.prompt_id for _, test in halves for conversation in test}
    group_of, groups = groups_of(sorted(tested), str(seed))
    tallies = {name: Tally(group_of, groups) for name in ("policy", *BASELINES)}
    for number, (train, test) in enumerate(halves):
        salt = f"{seed}/{number}"
        choices = _replayed(policy, recording.models, train, test, salt, tick)
        beside = baselines(recording.models, policy.incumbent, policy.rules.sla, train, test, salt)
        for name, made in {"policy": choices, **beside}.items():
            tallies[name].add(made, beside["oracle"], beside["incumbent"], policy.rules.sla)
    drawn = draws(groups, resamples, str(seed))
    return Study(policy, tuple(_result(name, tally, drawn, tick) for name, tally in tallies.items()))


def _replayed(
    policy: Policy,
    models: Sequence[str],
    train: list[Conversation],
    test: list[Conversation],
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
    )
