"""Rollouts of a known truth, many at once, judged each minute as the product judges them. Pure, with numpy.

The same numbers decide here as in ``judging``: factors are ``sequential.factors``, thresholds ``judging``'s. Only the
arithmetic is done for all runs at once; tests/routing/test_rollout_simulating.py holds its verdicts against ``judge``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from math import pi

import numpy as np
import numpy.typing as npt

from routing.rollout.evidence import BELIEVED, LEAST_SPREAD, ArmSums, Measure, StepEvidence
from routing.rollout.judging import harm_threshold, safe_threshold
from routing.rollout.plan import Plan
from routing.rollout.sequential import BASELINES, ODDS_RATIOS, Null, factors, rounded_share, stake

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CELLS = len(BASELINES) * len(ODDS_RATIOS)
_MEASURES = tuple(Measure)
_BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
_TREATED, _CONTROL = 0, 1


class Outcome(IntEnum):
    UNFINISHED = 0
    COMPLETED = 1
    ROLLED_BACK = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """What is true. Rates are shares of completions that turn out badly: for success, failures."""

    rates: Mapping[Measure, float]
    harms: Mapping[Measure, float] = field(default_factory=dict)
    """Added to the treated's rates; what is left out is 0."""
    per_hour: float = 1000.0
    """Conversations, at random (Poisson)."""
    holdout: float = 0.02
    completions: int = 1
    """Per conversation."""
    likeness: float = 0.2
    """How much a conversation's completions are alike (intraclass correlation), where there are several."""
    drift: float = 0.0
    """Rates of both arms swing up and down by this part of themselves within a day."""

    def rate(self, measure: Measure, treated: bool, minutes: float) -> float:
        swing = 1 + self.drift * float(np.sin(2 * pi * minutes / (24 * 60)))
        return min(self.rates[measure] * swing + (self.harms.get(measure, 0.0) if treated else 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One entry per run."""

    outcome: Ints
    step: Ints
    """Reached last, from 0."""
    minutes: Ints
    conversations: Ints
    treated: Ints
    advanced: Bools
    """By run and step: it was advanced from, or completed."""


class Simulation:
    """Runs side by side. ``look`` lets minutes pass and judges all that are not over."""

    def __init__(self, plan: Plan, scene: Scene, runs: int, seed: int) -> None:
        self.plan, self.scene, self.runs = plan, scene, runs
        self._random = np.random.default_rng(seed)
        steps = len(plan.steps)
        self.minutes = 0
        self.step = np.zeros(runs, dtype=np.int64)
        self.began = np.zeros(runs, dtype=np.int64)
        self.outcome = np.zeros(runs, dtype=np.int64)
        self.ended = np.zeros(runs, dtype=np.int64)
        self.advanced = np.zeros((runs, steps), dtype=np.bool_)
        # By step, arm, run: conversations; and by measure: sums of bad shares and of their squares.
        self.conversations = np.zeros((steps, 2, runs), dtype=np.int64)
        self.sums = np.zeros((steps, 2, runs, len(_MEASURES)))
        self.squares = np.zeros_like(self.sums)
        # Logs of what the closed steps have made of each alternative's stake, and the stakes of steps to come.
        self._staked = np.full((len(_MEASURES), runs, CELLS), np.log(stake(0, steps) / CELLS))
        self._to_come = np.full(runs, sum(stake(begin, steps) for begin in range(1, steps)))
        self._shares = np.array(plan.steps) / 100 * (1 - scene.holdout)
        self._numbers = _Shares()
        self._tables: dict[tuple[Null, float], _Table] = {}

    def look(self, minutes: int = 1) -> None:
        live = np.flatnonzero(self.outcome == Outcome.UNFINISHED)
        self.minutes += minutes
        self._draw(live, minutes)
        harmed = np.zeros(len(live), dtype=np.bool_)
        safe = self._long_enough(live)
        shares = self._numbers.numbers(
            *(self.conversations[self.step[live], arm, live] for arm in (_TREATED, _CONTROL))
        )
        evidence = []
        for number, measure in enumerate(_MEASURES):
            counts = self._counts(live, number)
            logs = self._table(Null.AT_MOST, self.plan.tolerances[measure]).logs(counts, shares)
            evidence.append(logs)
            harmed |= self._harmed(live, number, logs) >= harm_threshold(self.plan)
            still = np.flatnonzero(safe)
            found = self._safe(live[still], measure, counts[still], shares[still])
            safe[still] = found >= safe_threshold(self.plan)
        self._end(live[harmed], Outcome.ROLLED_BACK)
        onward = safe & ~harmed
        self.advanced[live[onward], self.step[live[onward]]] = True
        last = self.step[live] == len(self.plan.steps) - 1
        self._end(live[onward & last], Outcome.COMPLETED)
        self._advance(live, onward & ~last, evidence)

    def outcomes(self) -> Outcomes:
        return Outcomes(
            outcome=self.outcome,
            step=self.step,
            minutes=np.where(self.outcome == Outcome.UNFINISHED, self.minutes, self.ended),
            conversations=self.conversations.sum(axis=(0, 1)),
            treated=self.conversations[:, _TREATED].sum(axis=0),
            advanced=self.advanced,
        )

    def evidence(self, run: int) -> list[StepEvidence]:
        """What ``judge`` would be given of this run now."""
        return [
            StepEvidence(
                index,
                self.plan.steps[index],
                _BEGIN + timedelta(minutes=int(self.began[run])),
                self._arm(index, _TREATED, run),
                self._arm(index, _CONTROL, run),
            )
            for index in range(int(self.step[run]) + 1)
        ]

    @property
    def now(self) -> datetime:
        return _BEGIN + timedelta(minutes=self.minutes)

    def _arm(self, index: int, arm: int, run: int) -> ArmSums:
        n = int(self.conversations[index, arm, run])
        sums = dict(zip(_MEASURES, map(float, self.sums[index, arm, run]), strict=True))
        squares = dict(zip(_MEASURES, map(float, self.squares[index, arm, run]), strict=True))
        bad, bad_squares = sums[Measure.SUCCESS], squares[Measure.SUCCESS]
        sums[Measure.SUCCESS], squares[Measure.SUCCESS] = n - bad, n - 2 * bad + bad_squares
        return ArmSums(n, sums, squares)

    def _draw(self, live: Ints, minutes: int) -> None:
        """New conversations of these runs, and how they turned out."""
        step = self.step[live]
        came = self._random.poisson(self.scene.per_hour * minutes / 60, len(live))
        treated = self._random.binomial(came, self._shares[step])
        for arm, count in ((_TREATED, treated), (_CONTROL, came - treated)):
            self.conversations[step, arm, live] += count
            for number, measure in enumerate(_MEASURES):
                rate = self.scene.rate(measure, arm == _TREATED, self.minutes)
                sums, squares = self._shares_of(count, rate)
                self.sums[step, arm, live, number] += sums
                self.squares[step, arm, live, number] += squares

    def _shares_of(self, count: Ints, rate: float) -> tuple[Floats, Floats]:
        """Sums and sums of squares of the bad shares of so many conversations."""
        if self.scene.completions == 1 or rate in (0.0, 1.0):
            bad = np.asarray(self._random.binomial(count, rate), dtype=np.float64)
            return bad, bad
        owner = np.repeat(np.arange(len(count)), count)
        concentration = 1 / self.scene.likeness - 1
        own = self._random.beta(rate * concentration, (1 - rate) * concentration, len(owner))
        shares = self._random.binomial(self.scene.completions, own) / self.scene.completions
        return (
            np.asarray(np.bincount(owner, shares, len(count)), dtype=np.float64),
            np.asarray(np.bincount(owner, shares * shares, len(count)), dtype=np.float64),
        )

    def _counts(self, live: Ints, number: int) -> Floats:
        """Of the running step: bad and good of both arms (``evidence.counts_of``)."""
        step = self.step[live]
        nt, nc = (self.conversations[step, arm, live] for arm in (_TREATED, _CONTROL))
        bt, bc = (self.sums[step, arm, live, number] for arm in (_TREATED, _CONTROL))
        qt, qc = (self.squares[step, arm, live, number] for arm in (_TREATED, _CONTROL))
        spread_t, spread_c = bt - bt * bt / np.maximum(nt, 1), bc - bc * bc / np.maximum(nc, 1)
        most = spread_t + spread_c
        seen = np.where(most > 0, (most - (bt - qt) - (bc - qc)) / np.where(most > 0, most, 1), 1.0)
        known = np.minimum(spread_t, spread_c)
        ratio = np.maximum((np.maximum(seen, 0) * known + BELIEVED) / (known + BELIEVED), LEAST_SPREAD)
        return np.asarray(np.stack([bt, nt - bt, bc, nc - bc], axis=1) / ratio[:, None])

    def _harmed(self, live: Ints, number: int, logs: Floats) -> Floats:
        """Log evidence of harm (``sequential.evidence_of_steps``)."""
        parts = self._staked[number, live] + logs
        highest = np.maximum(parts.max(axis=1), 0.0)
        total = np.exp(parts - highest[:, None]).sum(axis=1) + self._to_come[live] * np.exp(-highest)
        return np.asarray(highest + np.log(total))

    def _safe(self, live: Ints, measure: Measure, counts: Floats, shares: Ints) -> Floats:
        """Log evidence that the harm is less than the step's margin."""
        found = np.empty(len(live))
        step = self.step[live]
        for index in np.unique(step):
            here = step == index
            table = self._table(Null.AT_LEAST, self.plan.margin(int(index), measure))
            logs = table.logs(counts[here], shares[here])
            highest = logs.max(axis=1)
            found[here] = highest + np.log(np.exp(logs - highest[:, None]).mean(axis=1))
        return found

    def _long_enough(self, live: Ints) -> Bools:
        step = self.step[live]
        long = self.minutes - self.began[live] >= self.plan.min_minutes
        counts = self.conversations[step, :, live]
        return np.asarray(long & (counts >= self.plan.min_conversations).all(axis=1))

    def _end(self, runs: Ints, outcome: Outcome) -> None:
        self.outcome[runs] = outcome
        self.ended[runs] = self.minutes

    def _advance(self, live: Ints, onward: Bools, evidence: list[Floats]) -> None:
        runs, steps = live[onward], len(self.plan.steps)
        self.step[runs] += 1
        self.began[runs] = self.minutes
        fresh = stake(1, steps)
        self._to_come[runs] -= fresh
        for number, logs in enumerate(evidence):
            kept = self._staked[number, runs] + logs[onward]
            self._staked[number, runs] = np.logaddexp(kept, np.log(fresh / CELLS))

    def _table(self, null: Null, harm: float) -> "_Table":
        if (null, harm) not in self._tables:
            self._tables[null, harm] = _Table(null, harm, self._numbers)
        return self._tables[null, harm]


class _Shares:
    """Numbers the treated's shares as they come up."""

    def __init__(self) -> None:
        self._numbers: dict[float | None, int] = {}
        self.values: list[float | None] = []

    def numbers(self, treated: Ints, control: Ints) -> Ints:
        return np.array(
            [self._number(nt, nc) for nt, nc in zip(treated.tolist(), control.tolist(), strict=True)],
            dtype=np.int64,
        )

    def _number(self, treated: int, control: int) -> int:
        share = rounded_share(treated, control)
        if share not in self._numbers:
            self._numbers[share] = len(self.values)
            self.values.append(share)
        return self._numbers[share]


class _Table:
    """Factors of all alternatives, worked out for each share that comes up."""

    def __init__(self, null: Null, harm: float, shares: _Shares) -> None:
        self._null, self._harm, self._shares = null, harm, shares
        self._rows = np.zeros((64, 4, CELLS))
        self._known: set[int] = set()

    def logs(self, counts: Floats, numbers: Ints) -> Floats:
        """Log evidence by run and alternative."""
        for number in set(numbers.tolist()) - self._known:
            self._learn(number)
        return np.asarray(np.matmul(counts[:, None, :], self._rows[numbers])[:, 0, :])

    def _learn(self, number: int) -> None:
        while number >= len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
        share = self._shares.values[number]
        if share is not None:
            self._rows[number] = np.array(factors(self._null, self._harm, share)).T
        self._known.add(number)
