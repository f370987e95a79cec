"""A trial: the model of a point is trained as the run's own will be, and judged."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import Trial, TrialState

from nfbench.blocks.method import Method, resolve_settings
from nfbench.config import VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets.manifest import Entry
from nfbench.features.cache import FeatureCache
from nfbench.metrics.ranking import areas_under_curves, image_areas
from nfbench.plan.cells import Cell
from nfbench.scoring.evaluate import GroundTruth
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.maps import score_images
from nfbench.search.space import split_point
from nfbench.search.study import SharedStudy
from nfbench.training.assemble import Images, class_levels
from nfbench.training.fit import fit
from nfbench.training.loop import Diverged

__all__ = ["Judged", "Objective", "measure"]

_FPR_LIMIT = 0.3


@dataclass(frozen=True)
class Judged:
    """Images that trials are judged by, and their cached features."""

    features: FeatureCache
    truth: GroundTruth
    rows: Sequence[int]

    @classmethod
    def of(cls, features: FeatureCache, entries: Sequence[Entry], chosen: Sequence[Entry]) -> "Judged":
        """Some images of a test view.

        Args:
            features: of the test view.
            entries: the category's manifest.
            chosen: test images of it.
        """
        number = {entry.image: row for row, entry in enumerate(e for e in entries if e.split == "test")}
        return cls(features, GroundTruth(chosen), [number[entry.image] for entry in chosen])


def measure(metric: str, model: Method, judged: Judged, device: torch.device) -> float:
    """A metric of a model in evaluation mode, the same number as a run record has.

    Raises:
        NfbenchError: it is not defined on these images.
    """
    levels = [level[judged.rows] for level in judged.features.levels]
    if model.takes_class:
        levels = class_levels(levels, 0)
    by_gradient = model.localizes_by_gradient
    localize = GradientMaps(model, judged.truth.entries, judged.features.meta, device) if by_gradient else None
    scored = score_images(model, levels, device, localize=localize)
    kind, name = metric.split("_")
    if kind == "image":
        areas = image_areas(scored.images["paper"], judged.truth.labels)
    else:
        areas = areas_under_curves(judged.truth.rank(scored.maps), (_FPR_LIMIT,))
    value = {"auroc": areas.auroc, "ap": areas.average_precision}.get(name)
    value = areas.aupro[0] if name == "aupro" else value
    if value is None or not np.isfinite(value):
        raise NfbenchError(f"metric '{metric}' of a search is not defined on its {len(judged.rows)} images")
    return float(value)


@dataclass(frozen=True)
class Objective:
    """What all trials of a study share.

    Attributes:
        cell: of the run that the best settings are for, on any of the backbones.
        variant: of the cell.
        reader: of the dataset, for the paper's per-category settings.
        epochs_at_most: train no longer than this.
        images: to train on, by the backbone's tag.
        judged: images to judge by, by the backbone's tag; empty where a held-out likelihood does.
        device: where to compute.
        folder: takes checkpoints.
        code: hash of the code that trials follow from.
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
        """Trains and judges the model of a trial, and ends the trial.

        Raises:
            NfbenchError: it cannot be trained for another reason than that its loss is lost.
        """
        started = time.monotonic()
        backbone, overrides = split_point(trial.params, tuple(self.images))
        images = self.images[backbone]
        cell = Cell(**{**self.cell.__dict__, "backbone": backbone})
        settings = resolve_settings(
            self.variant.method,
            dataset=self.reader,
            category=cell.category,
            backbone=images.features.meta.backbone,
            overrides={**self.variant.settings, **overrides},
            epochs_at_most=self.epochs_at_most,
        )
        values: list[float] = []

        def judge(model: Method, epoch: int, log_likelihood: float | None) -> None:
            judged = self.judged.get(backbone)
            value = measure(self.variant.search.metric, model, judged, self.device) if judged else log_likelihood
            if not np.isfinite(value):
                raise Diverged(f"{cell}: the held-out log-likelihood is {value} in epoch {epoch}")
            values.append(value)
            if study.report(trial, value, epoch) and epoch < settings.epochs:
                raise optuna.TrialPruned

        try:
            fitted = fit(
                cell, self.variant.method, settings, [images], self.device, self.folder, self.code, on_kept=judge
            )
        except optuna.TrialPruned:
            study.end(trial, TrialState.PRUNED, None, time.monotonic() - started)
        except Diverged as error:
            study.end(trial, TrialState.FAIL, None, time.monotonic() - started, message=str(error))
        else:
            study.end(trial, TrialState.COMPLETE, values[-1], time.monotonic() - started)
            fitted.side.remove()
