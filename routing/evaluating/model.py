"""The outcome model of the doubly robust estimator: shrunken means, cross-fitted by conversation. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from routing.evaluating.observations import Observation
from routing.flag_state import stable_share

FOLDS = 5
#: A mean counts as if so many further decisions had come out as the wider mean: a (profile, task)'s as its profile's,
#: a profile's as all decisions'.
PRIOR = 10.0

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Modelled:
    """What the model expects of one decision: under the candidate's chances, under the logged ones, and of what was
    given."""

    candidate: float
    logged: float
    given: float


class _Sums:
    """Rewards added up: by profile and task, by profile, and all."""

    def __init__(self) -> None:
        self.cells: dict[_Key, list[float]] = {}
        self.profiles: dict[str, list[float]] = {}
        self.all = [0.0, 0.0]

    def add(self, observation: Observation, reward: float) -> None:
        cell = self.cells.setdefault((observation.profile, observation.task), [0.0, 0.0])
        for sums in (cell, self.profiles.setdefault(observation.profile, [0.0, 0.0]), self.all):
            sums[0] += reward
            sums[1] += 1.0


_NONE = (0.0, 0.0)


class _Without:
    """The model of all folds but one."""

    def __init__(self, whole: _Sums, fold: _Sums) -> None:
        self._whole, self._fold = whole, fold
        total, n = whole.all[0] - fold.all[0], whole.all[1] - fold.all[1]
        self._mean = total / n if n else 0.0
        self._known: dict[_Key, float] = {}

    def expects(self, profile: str, task: str) -> float:
        key = (profile, task)
        known = self._known.get(key)
        if known is None:
            wide = _shrunken(self._whole.profiles.get(profile), self._fold.profiles.get(profile), self._mean)
            known = self._known[key] = _shrunken(self._whole.cells.get(key), self._fold.cells.get(key), wide)
        return known


def _shrunken(whole: Sequence[float] | None, fold: Sequence[float] | None, towards: float) -> float:
    (total, n), (less, out) = whole or _NONE, fold or _NONE
    return (total - less + PRIOR * towards) / (n - out + PRIOR)


def cross_fit(observations: Sequence[Observation], rewards: Sequence[float]) -> list[Modelled]:
    """Of each observation, by a model that has seen no decision of its conversation: were it to judge itself, errors
    would look smaller than they are (Chernozhukov et al., Econometrics Journal 21, 2018)."""
    whole, folds = _Sums(), [_Sums() for _ in range(FOLDS)]
    of = [int(stable_share("evaluate/fold", "", one.conversation) * FOLDS) for one in observations]
    for observation, reward, fold in zip(observations, rewards, of, strict=True):
        whole.add(observation, reward)
        folds[fold].add(observation, reward)
    models = [_Without(whole, fold) for fold in folds]
    return [_modelled(one, models[fold]) for one, fold in zip(observations, of, strict=True)]


def _modelled(observation: Observation, model: _Without) -> Modelled:
    task = observation.task
    return Modelled(
        candidate=sum(p * model.expects(slug, task) for slug, p in observation.candidate.items()),
        logged=sum(p * model.expects(slug, task) for slug, p in observation.logged.items()),
        given=model.expects(observation.profile, task),
    )
