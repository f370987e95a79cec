"""Bytes on disk of features and models, predicted from shapes, settings and numbers of images."""

import json
import math
from dataclasses import dataclass
from functools import cache

from nfbench.blocks.method import Method, resolve_settings
from nfbench.blocks.settings import EpochSettings, MethodSettings, epochs_of
from nfbench.config import BackboneConfig, Kept
from nfbench.features.building import count_on
from nfbench.plan.memory import feature_bytes
from nfbench.plan.specs import ExtractSpec, TrainSpec
from nfbench.training.data import held_out_count
from nfbench.training.loop import kept_epochs
from nfbench.training.shots import for_condition

__all__ = ["ModelSize", "features_size", "model_size", "settings_of"]


@dataclass(frozen=True)
class ModelSize:
    """Bytes of the models of one training, without file headers.

    Attributes:
        model: bytes of one model.
        trained: bytes of its trained parameters.
        kept: number of models that the training keeps.
        epochs: number of epochs.
    """

    model: int
    trained: int
    kept: int
    epochs: int

    @property
    def published(self) -> int:
        """Bytes of the training's output until its models are scored."""
        return self.model * self.kept

    @property
    def working(self) -> int:
        """Largest number of further bytes during training: two checkpoints with Adam's moments, and the kept models."""
        return 2 * (self.model + 2 * self.trained) + self.published if self.epochs else 0

    def staying(self, kept: Kept) -> int:
        """Bytes that stay after the models are scored."""
        return {"all": self.published, "last": self.model, "none": 0}[kept]


def features_size(spec: ExtractSpec, images: int) -> int:
    """Bytes of the cached features of one view, without headers; pseudo-anomalies include all variants and masks."""
    if spec.backbone.online:
        return 0
    if not (spec.anomalies and spec.anomalies.generator):
        return images * feature_bytes(spec.backbone)
    return images * spec.anomalies.views * (feature_bytes(spec.backbone) + math.prod(spec.backbone.size))


def settings_of(spec: TrainSpec) -> MethodSettings:
    """Settings of a training; settings from a search are unknown and left at their defaults."""
    settings = resolve_settings(
        spec.method,
        dataset=spec.reader,
        category=spec.cell.category,
        backbone=spec.backbone.name,
        overrides=spec.settings,
        epochs_at_most=spec.epochs_at_most,
    )
    return for_condition(settings, spec.cell.condition)


def model_size(spec: TrainSpec, images: int) -> ModelSize:
    """Bytes of the models of a training on this number of normal images; models are built without values."""
    settings = settings_of(spec)
    model = _built(spec.method, spec.backbone, settings.model_dump_json(), len(spec.classes))
    rows = model.grown_rows(images - held_out_count(images, settings.val_fraction))
    tensors = model.state_dict()
    fixed = sum(value.nbytes for name, value in tensors.items() if name not in rows)
    grown = sum(tensors[name].new_empty(count, *tensors[name].shape[1:]).nbytes for name, count in rows.items())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    epochs, kept = epochs_of(settings), 1
    if isinstance(settings, EpochSettings) and epochs:
        kept = len(kept_epochs(epochs, settings.checkpoints))
    return ModelSize(fixed + grown, trained, kept, epochs)


@cache
def _built(method: str, backbone: BackboneConfig, settings: str, classes: int) -> Method:
    """Build a model with shapes but no values."""
    return count_on(backbone, method, resolve_settings(method, overrides=json.loads(settings)), classes)
