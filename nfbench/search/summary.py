"""Summary of a study whose trials have all finished."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import provenance
from nfbench.plan.specs import StudySpec
from nfbench.search.record import BestTrial, StudyRecord, TrialRecord
from nfbench.search.space import split_point
from nfbench.search.study import FAILURE, SAMPLER, SECONDS, WORKER, SharedStudy

__all__ = ["summarize"]

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_FEWEST_FOR_IMPORTANCES = 8


def summarize(shared: SharedStudy, spec: StudySpec, space: Mapping[str, Any], validation: Sequence[str]) -> StudyRecord:
    """Build the record of a study.

    Args:
        shared: the study.
        spec: spec of the study.
        space: dimensions by setting.
        validation: images for judging trials, if they are excluded from the test set.

    Raises:
        NfbenchError: trials are missing, or none completed.
    """
    search, name = spec.variant.searched, spec.name
    ended = shared.trials()
    seconds = sum(trial.user_attrs[SECONDS] for trial in ended)
    out_of_time = search.seconds is not None and seconds >= search.seconds
    if len(ended) < search.trials and not out_of_time:
        raise NfbenchError(
            f"study of '{name}': only {len(ended)} of {search.trials} trials have finished; run the workers again"
        )
    backbones = tuple(backbone.tag for backbone in search.backbones)
    complete = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    if not complete:
        first = next((trial.user_attrs[FAILURE] for trial in ended if FAILURE in trial.user_attrs), "")
        raise NfbenchError(
            f"study of '{name}': no trial completed; {first}; narrow its 'space', or remove "
            f"{spec.study}/.study to try again"
        )
    sign = 1 if search.direction == "minimize" else -1
    best = [_best(trial, backbones) for trial in sorted(complete, key=lambda trial: _rank(trial, sign))]
    by_backbone: dict[str, BestTrial] = {}
    for trial in best:
        by_backbone.setdefault(trial.backbone, trial)
    return StudyRecord(
        spec=spec,
        study={
            "name": name,
            "cell": {**spec.model_dump(include={"setting", "dataset", "category"}), "method": spec.variant.method},
            "backbones": list(backbones),
            "objective": search.objective,
            "metric": "log_likelihood" if search.objective == "log_likelihood" else search.metric,
            "direction": search.direction,
            "budget": search.trials,
            "budget_seconds": search.seconds,
            "workers": search.workers,
            "sampler": SAMPLER,
            "seed": search.seed,
            "space": {name: dimension.model_dump(mode="json") for name, dimension in space.items()},
        },
        trials=[_trial(trial) for trial in ended],
        best=best[0],
        by_backbone=by_backbone,
        importances=_importances(shared, complete),
        validation=list(validation),
        seconds=round(seconds, 3),
        provenance=provenance(),
    )


def _rank(trial: FrozenTrial, sign: int) -> tuple[float, int]:
    """Return a sort key of complete trials: best first, then earliest; ``sign`` is 1 if lower is better."""
    (value,) = trial.values
    return sign * value, trial.number


def _best(trial: FrozenTrial, backbones: tuple[str, ...]) -> BestTrial:
    backbone, settings = split_point(trial.params, backbones)
    return BestTrial(number=trial.number, backbone=backbone, settings=settings, params=trial.params, value=trial.value)


def _trial(trial: FrozenTrial) -> TrialRecord:
    return TrialRecord(
        number=trial.number,
        state=_STATES[trial.state],
        params=trial.params,
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        intermediate=trial.intermediate_values,
        seconds=trial.user_attrs[SECONDS],
        worker=trial.user_attrs[WORKER],
        started=_with_zone(trial.datetime_start),
        finished=_with_zone(trial.datetime_complete),
        message=trial.user_attrs.get(FAILURE, ""),
    )


def _with_zone(moment: datetime | None) -> datetime:
    if moment is None:
        raise ValueError("a finished trial needs both times")
    return moment.astimezone()


def _importances(shared: SharedStudy, complete: Sequence[FrozenTrial]) -> dict[str, float]:
    """Compute fANOVA importances of dimensions that all complete trials have; empty if values do not vary."""
    varied: dict[str, BaseDistribution] = {
        name: found for name, found in complete[0].distributions.items() if len({t.params[name] for t in complete}) > 1
    }
    if len(complete) < _FEWEST_FOR_IMPORTANCES or len({trial.value for trial in complete}) < 2 or not varied:
        return {}
    from optuna.importance import get_param_importances  # imports scikit-learn, which workers do not need

    found = get_param_importances(shared.study, params=list(varied))
    return {name: round(float(share), 6) for name, share in found.items()}
