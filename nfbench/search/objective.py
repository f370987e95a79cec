"""Objective of a study: trains a model with the settings of a trial, as a run would, and judges it."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import Trial, TrialState

from nfbench.blocks.features import Features
from nfbench.blocks.method import Method, resolve_settings
from nfbench.blocks.settings import epochs_of
from nfbench.config import VariantConfig
from nfbench.core.errors import NfbenchError, one_line
from nfbench.datasets._manifest import Entry, view_entries
from nfbench.features.batches import CachedFeatures, of_class
from nfbench.features.cache import FeatureCache
from nfbench.features.meta import FeatureMeta
from nfbench.features.shards import StoredArray
from nfbench.features.tiling import cut, like
from nfbench.metrics import find_metric
from nfbench.metrics._tails import NormalScores
from nfbench.plan.cells import Cell
from nfbench.scoring.evaluate import GroundTruth, ScoredSet
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.maps import Localizer, log_nfa_maps, score_images, score_normal
from nfbench.search.space import split_point
from nfbench.search.study import SharedStudy
from nfbench.training.assemble import Images
from nfbench.training.crossfit import cross_fit
from nfbench.training.data import split_rows
from nfbench.training.fit import fit, seed_of
from nfbench.training.loop import Diverged

__all__ = ["Judged", "Objective", "measure"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """Images for judging trials, and normal training images, from which some metrics take a threshold.

    Attributes:
        features: features of the test view.
        truth: labels and masks of the test images for judging.
        rows: rows of these images in the test view.
        normal_features: features of the training view.
        normal: images of the training view.
    """

    features: FeatureCache
    truth: GroundTruth
    rows: Sequence[int]
    normal_features: FeatureCache
    normal: Sequence[Entry]

    @classmethod
    def of(
        cls, features: FeatureCache, normal_features: FeatureCache, entries: Sequence[Entry], chosen: Sequence[Entry]
    ) -> "Judged":
        """Select images of a test view.

        Args:
            features: features of the test view.
            normal_features: features of the training view.
            entries: manifest of the category.
            chosen: selected test images.
        """
        number = {entry.image: row for row, entry in enumerate(e for e in entries if e.split == "test")}
        rows = [number[entry.image] for entry in chosen]
        return cls(features, GroundTruth(chosen), rows, normal_features, view_entries(entries, "train"))


def measure(
    metric: str,
    model: Method,
    judged: Judged,
    device: torch.device,
    held_out: Sequence[int] = (),
    cross_fitted: Callable[[], NormalScores | None] = lambda: None,
    folder: Path | None = None,
) -> float:
    """Compute a metric of a model in evaluation mode, equal to the value in a run record.

    Args:
        metric: name of the metric.
        model: the model.
        judged: images to measure on.
        device: device for computation.
        held_out: rows of the normal images that were held out from training.
        cross_fitted: returns cross-fitted scores to take thresholds from instead of the model's scores of normal
            images, or None.
        folder: folder for data that may not fit into memory; see ``nfbench.core.scratch.empty``.

    Raises:
        NfbenchError: the metric is not defined on these images.
    """

    def seen(
        features: Features[StoredArray], entries: Sequence[Entry], meta: FeatureMeta
    ) -> tuple[CachedFeatures, Localizer | None]:
        features = of_class(features, 0) if model.takes_class else features
        if not model.gradient_maps:
            return features, None
        return features, GradientMaps(model, cut(entries, features.tiling), meta.recipe, device)

    def scores_of_normal() -> NormalScores:
        n_train = sum(entry.split == "train" for entry in judged.normal)
        if n_train < len(judged.normal):
            features, localize = seen(normal.part(n_train, len(normal)), judged.normal[n_train:], normal.meta)
            return score_normal(model, features, device, (), localize, folder).scores
        if found := cross_fitted():
            return found
        features, localize = seen(normal.features, judged.normal, normal.meta)
        return score_normal(model, features, device, held_out, localize, folder).scores

    named = find_metric(metric)
    tested, normal = judged.features, judged.normal_features
    chosen = like(tested.features.select(judged.rows), normal.features)
    features, localize = seen(chosen, judged.truth.entries, tested.meta)
    scored = score_images(model, features, device, localize=localize, folder=folder)
    log_nfa = log_nfa_maps(scored, folder) if named.metric.needs_latents else {}
    test = ScoredSet(scored, judged.truth, scores_of_normal, log_nfa, folder)
    value = named.metric.value(test, named.variant) if test.measures(named) else math.nan
    if not math.isfinite(value):
        without = "; the method has no white latents" if named.metric.needs_latents and not scored.energies else ""
        raise NfbenchError(f"metric '{metric}' of a search is not defined on its {len(judged.rows)} images{without}")
    return float(value)


@dataclass(frozen=True)
class Objective:
    """Objective that all trials of a study share.

    Attributes:
        cell: cell of the run that will use the best settings, on any of the backbones.
        variant: variant of the cell.
        reader: reader of the dataset, for the paper's settings by category.
        epochs_at_most: maximum number of epochs.
        images: training images by tag of the backbone.
        judged: images for judging by tag of the backbone; empty if a held-out likelihood is the objective.
        device: device for computation.
        folder: folder for checkpoints.
        code: hash of the code that trials depend on.
    """

    cell: Cell
    variant: VariantConfig
    reader: str
    epochs_at_most: int | None
    images: Mapping[str, Images]
    judged: Mapping[str, Judged]
    device: torch.device
    folder: Path
    code: str

    def run(self, trial: Trial, study: SharedStudy) -> None:
        """Train and judges the model of a trial, and ends the trial; it counts as failed if training fails.

        Raises:
            NfbenchError, OSError: a problem of the machine, such as a full disk. The trial restarts with the worker.
        """
        started = time.monotonic()
        try:
            state, value, message = TrialState.COMPLETE, self._value(trial, study), ""
        except optuna.TrialPruned:
            state, value, message = TrialState.PRUNED, None, ""
        except Exception as error:  # a diverging loss, too little memory, settings that the method refuses
            if _is_of_the_machine(error):
                raise
            text = str(error) if isinstance(error, NfbenchError) else f"{type(error).__name__}: {one_line(error)}"
            _log.warning("trial %d failed: %s", trial.number, text)
            _log.info("traceback of the failed trial", exc_info=True)
            state, value, message = TrialState.FAIL, None, text
        study.end(trial, state, value, time.monotonic() - started, message)
        shutil.rmtree(self.folder / ".resume", ignore_errors=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _value(self, trial: Trial, study: SharedStudy) -> float:
        """Return the value of the last kept model, and report those of earlier ones.

        Raises:
            TrialPruned: the value is worse than those of other trials at the same epoch.
        """
        backbone, overrides = split_point(trial.params, tuple(self.images))
        images = self.images[backbone]
        cell = Cell(**{**self.cell.__dict__, "backbone": backbone})
        settings = resolve_settings(
            self.variant.method,
            dataset=self.reader,
            category=cell.category,
            backbone=images.features.meta.backbone.name,
            overrides={**self.variant.settings, **overrides},
            epochs_at_most=self.epochs_at_most,
        )
        values: list[float] = []
        _, held_out = split_rows(images.n_train, settings.val_fraction, seed_of(cell))

        def cross_fitted() -> NormalScores | None:
            return next(iter(cross_fit(cell, self.variant.method, settings, [images], self.device)), None)

        def measured(model: Method, judged: Judged) -> float:
            metric = self.variant.searched.metric
            return measure(metric, model, judged, self.device, held_out.tolist(), cross_fitted, self.folder)

        def judge(model: Method, epoch: int, log_likelihood: float | None) -> None:
            judged = self.judged.get(backbone)
            value = measured(model, judged) if judged else log_likelihood
            if value is None or not np.isfinite(value):
                raise Diverged(f"{cell}: the held-out log-likelihood is {value} in epoch {epoch}")
            values.append(value)
            if study.report(trial, value, epoch) and epoch < epochs_of(settings):
                raise optuna.TrialPruned

        fit(cell, self.variant.method, settings, [images], self.device, self.folder, self.code, on_kept=judge)
        return values[-1]


def _is_of_the_machine(error: BaseException | None) -> bool:
    """Whether an error, or its cause, concerns files or disks, so that other settings would not help."""
    return error is not None and (
        isinstance(error, OSError) or _is_of_the_machine(error.__cause__ or error.__context__)
    )
