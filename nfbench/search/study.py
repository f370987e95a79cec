"""A study that several workers share through one journal, which loses no trial and counts none twice.

Every write to a study holds a lock of the operating system, which is released when its process ends. If a worker is
killed, that worker or another one restarts its trial at the same point. Studies with another space, other settings,
features or code have another fingerprint and another journal.
"""

import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.provenance import derive_seed

__all__ = ["FAILURE", "SAMPLER", "SharedStudy"]

SAMPLER = "TPE, new for each trial, seeded by the number of trials before it"
WORKER, FAILURE, SECONDS, BEGUN = "worker", "failure", "seconds", "begun"

Direction = Literal["maximize", "minimize"]

_NAME = "study"
_RANDOM_TRIALS = 10
_MOST_BEGINNINGS = 10
_PRUNED_FROM = 5
_log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)


class SharedStudy:
    """Claims and ends trials of a study.

    An unreadable journal is renamed with a warning, and a new one is started.

    Args:
        path: the journal; created if missing.
        seed: seed of the sampler.
        pruning: stop trials that are worse than the median.
        direction: ``maximize`` or ``minimize``.

    Attributes:
        study: the study of Optuna, for reading.
    """

    def __init__(self, path: Path, seed: int, pruning: bool, direction: Direction = "maximize") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.seed, self.direction = seed, direction
        self._lock = FileLock(f"{path}.lock")
        pruner = MedianPruner(n_startup_trials=_PRUNED_FROM) if pruning else NopPruner()
        with self._lock:
            try:
                self.study = self._read(path, pruner)
            except OSError:
                raise
            except Exception as error:  # Optuna's reader raises errors of many types
                _set_aside(path, error)
                self.study = self._read(path, pruner)

    def _read(self, path: Path, pruner: BasePruner) -> optuna.Study:
        """Load the study of a journal, or create it.

        Raises:
            Exception: of any type, if the journal is damaged.
        """
        lock = _JournalLock(path, self._lock)
        backend = JournalFileBackend(str(path), lock)  # type: ignore[arg-type]  # Optuna keeps the base class private
        storage = JournalStorage(backend)
        study = optuna.create_study(
            storage=storage, study_name=_NAME, direction=self.direction, load_if_exists=True, pruner=pruner
        )
        for trial in study.get_trials(deepcopy=False):
            if _has_ended(trial) and not {WORKER, SECONDS} <= trial.user_attrs.keys():
                raise ValueError(f"trial {trial.number} lacks its worker or its time")
        return study

    @contextmanager
    def worker(self, number: int) -> Iterator[None]:
        """Acts as worker ``number``, exclusively, and requeues trials that a killed worker left running."""
        with FileLock(f"{self._lock.lock_file}.{number}"):
            with self._lock:
                self._take_back(number)
            yield

    def trials(self) -> list[FrozenTrial]:
        """List the finished trials in order, without lost ones."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if _has_ended(trial)]

    def suggest_first(self, point: Mapping[str, Any]) -> None:
        """Enqueue a point to be tried first, unless trials have started or it is already enqueued."""
        with self._lock:
            if all(trial.state == TrialState.WAITING for trial in self.study.get_trials(deepcopy=False)):
                self.study.enqueue_trial(dict(point), skip_if_exists=True)

    def claim(
        self, worker: int, space: Mapping[str, BaseDistribution], budget: int, seconds: float | None
    ) -> Trial | None:
        """Claim the next trial; None if all have started or the finished ones took longer than ``seconds``."""
        with self._lock:
            self._take_back(None)
            ended = self.trials()
            running = [t for t in self.study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
            spent = sum(trial.user_attrs[SECONDS] for trial in ended)
            if len(ended) + len(running) >= budget or (seconds is not None and spent >= seconds):
                return None
            seed = derive_seed(self.seed, len(ended) + len(running)) % 2**32
            self.study.sampler = TPESampler(n_startup_trials=_RANDOM_TRIALS, seed=seed, constant_liar=True)
            trial = self.study.ask(dict(space))
            trial.set_user_attr(WORKER, worker)
            return trial

    def end(self, trial: Trial, state: TrialState, value: float | None, seconds: float, message: str = "") -> None:
        """End a trial.

        Raises:
            NfbenchError: another process of the same worker has requeued the trial.
        """
        with self._lock:
            if self.study.get_trials(deepcopy=False)[trial.number].state != TrialState.RUNNING:
                raise NfbenchError(f"trial {trial.number} was requeued by another process of this worker")
            trial.set_user_attr(SECONDS, round(seconds, 3))
            if message:
                trial.set_user_attr(FAILURE, message)
            self.study.tell(trial, value, state)

    def report(self, trial: Trial, value: float, epoch: int) -> bool:
        """Report an intermediate value; return whether to stop the trial."""
        with self._lock:
            trial.report(value, epoch)
            return trial.should_prune()

    def _take_back(self, worker: int | None) -> None:
        """Requeues trials that a killed worker left: this worker, or one that had not yet named its trial.

        A trial whose workers were killed several times, probably for lack of memory, counts as failed.
        """
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state != TrialState.RUNNING or trial.user_attrs.get(WORKER) != worker:
                continue
            begun = trial.user_attrs.get(BEGUN, 1)
            if begun >= _MOST_BEGINNINGS:
                own = Trial(self.study, trial._trial_id)
                own.set_user_attr(WORKER, -1 if worker is None else worker)
                self.end(own, TrialState.FAIL, None, 0.0, f"its worker was killed {begun} times; too little memory?")
                continue
            _log.warning("trial %d was left by a killed worker; it starts again", trial.number)
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params, user_attrs={BEGUN: begun + 1})


def _set_aside(path: Path, error: Exception) -> None:
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    _log.warning(
        "%s: the journal of the study cannot be read (%s); it is kept as %s, and its trials run again",
        path,
        one_line(error, 100),
        aside.name,
    )


class _JournalLock:
    """Lock of a journal for Optuna, released by the system if its holder is killed; drops a truncated last line."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path, self.lock = path, lock

    def acquire(self) -> bool:
        self.lock.acquire()
        with open(self.path, "rb+") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_CUR), file.read())[1] != b"\n":
                _log.warning("%s: dropped the last line, which was truncated when its writer was killed", self.path)
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self.lock.release()


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (
        trial.state == TrialState.FAIL and FAILURE in trial.user_attrs
    )
