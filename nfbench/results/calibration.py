"""Speed of this machine, measured with one or two steps of each kind of job on random features.

Times are for one CPU thread, as jobs use, or for the GPU. They exclude reading images.
"""

import time
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, Method
from nfbench.blocks.settings import MethodSettings, TrainedSettings
from nfbench.config import BackboneConfig
from nfbench.features.building import build_on
from nfbench.features.forward import load_recipe
from nfbench.metrics._iou import iou_sweep
from nfbench.metrics._ranking import RankedScores, areas_under_curves
from nfbench.training.optimizer import Adam, OwnOptimizer

__all__ = ["Calibration"]

_IMAGES = 2
"""Images in a batch; on a CPU, larger batches take about the same time per image."""
_SHARE_OF_MEMORY = 0.7
_PIXELS = 2 * 512**2
_MEASURED = (RuntimeError, ValueError, NotImplementedError)
"""Errors that an untrained model may raise; its time is then unknown."""


class Calibration:
    """Measures seconds per image, once for each kind of job.

    Args:
        device: device of the jobs.
        budget: seconds after which no further measurement starts.
    """

    def __init__(self, device: torch.device, budget: float) -> None:
        self.device, self._ends = device, time.monotonic() + budget
        self.extraction = cache(self._extraction)
        self._models: dict[Any, tuple[float | None, float | None]] = {}

    def training(self, method: str, settings: MethodSettings, backbone: BackboneConfig, classes: int) -> float | None:
        """Seconds of a training step per image; None without time or memory left, or without training steps."""
        return self._of_model(method, settings, backbone, classes)[0]

    def scoring(self, method: str, settings: MethodSettings, backbone: BackboneConfig, classes: int) -> float | None:
        """Seconds of scoring per image; None without time or memory left."""
        return self._of_model(method, settings, backbone, classes)[1]

    @cached_property
    def metrics(self) -> float | None:
        """Seconds of the metrics per pixel of the test images."""

        def measure() -> None:
            scores = np.random.default_rng(0).random((2, 512, 512), dtype=np.float32)
            regions = np.zeros((512, 512), dtype=np.int64)
            regions[:64, :64] = 1
            ranked = RankedScores(scores.size)
            for each in scores:
                ranked.add(each, regions)
            areas_under_curves(ranked)
            iou_sweep(ranked, [0.5])

        return self._timed(measure, _PIXELS)

    def _extraction(self, backbone: BackboneConfig) -> float | None:
        """Seconds of a backbone's forward pass per image, with random weights; None without time left."""
        if not backbone.level_shapes or self._is_over:
            return None if backbone.level_shapes else 0.0
        _, model = load_recipe(backbone.model_copy(update={"weights": "random"}))
        model = model.to(self.device)
        images = torch.randn(_IMAGES, 3, *backbone.size, device=self.device)
        with torch.inference_mode():
            return self._timed(lambda: model(images), _IMAGES)

    def _of_model(
        self, method: str, settings: MethodSettings, backbone: BackboneConfig, classes: int
    ) -> tuple[float | None, float | None]:
        key = method, settings, backbone, classes
        if key not in self._models:
            self._models[key] = (None, None) if self._is_over else self._measure(*key)
        return self._models[key]

    def _measure(
        self, method: str, settings: MethodSettings, backbone: BackboneConfig, classes: int
    ) -> tuple[float | None, float | None]:
        model = build_on(backbone, method, settings, 0, classes)
        needed = 4 * sum(value.nbytes for value in model.state_dict().values())
        if self.device.type == "cpu" and needed > _SHARE_OF_MEMORY * psutil.virtual_memory().available:
            return None, None
        model, features = model.to(self.device), _random_features(model, backbone, self.device)
        trained = None
        if isinstance(settings, TrainedSettings) and settings.epochs:
            trained = self._timed(_step(model.train(), settings, features), _IMAGES)
        model.eval()
        for name, rows in model.grown_rows(_IMAGES).items():  # a larger fitted model takes longer
            buffer = model.get_buffer(name)
            setattr(model, name, torch.rand(rows, *buffer.shape[1:], dtype=buffer.dtype, device=self.device))
        with torch.no_grad():
            return trained, self._timed(lambda: model.score(features), _IMAGES)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._ends

    def _timed(self, measured: Callable[[], object], images: int) -> float | None:
        """Seconds per image; those of a second call if the first one was fast."""
        seconds = 0.0
        try:
            for _ in range(2):
                started = time.monotonic()
                measured()
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                seconds = time.monotonic() - started
                if seconds > 1 or self._is_over:
                    break
        except _MEASURED:
            return None
        return seconds / images


def _step(model: Method, settings: TrainedSettings, features: Features[Tensor]) -> Callable[[], None]:
    """Return a function that trains on one batch, with all its optimizer steps."""
    own = model.own_optimizer()
    optimizer = OwnOptimizer(own) if own else Adam(model.optimizer_groups(), settings.lr)
    masks = None
    if model.takes_anomalies:
        masks = torch.zeros(_IMAGES, *model.map_size, device=_device_of(features))
        masks[::2, : model.map_size[0] // 4, : model.map_size[1] // 4] = 1
    generator = torch.Generator(_device_of(features)).manual_seed(0)

    def step() -> None:
        for loss in model.losses(Batch(features, masks), generator):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step


def _device_of(features: Features[Tensor]) -> torch.device:
    """Device of the features."""
    return next(features.parts()).device


def _random_features(model: Method, backbone: BackboneConfig, device: torch.device) -> Features[Tensor]:
    outer = (_IMAGES, backbone.rotations) if backbone.rotations else (_IMAGES,)
    levels = [torch.randn(*outer, *shape, device=device) for shape in backbone.level_shapes.values()]
    image = torch.randn(*outer, *backbone.image_shape, device=device) if backbone.image_shape else None
    classes = torch.zeros(_IMAGES, dtype=torch.long, device=device) if model.takes_class else None
    return Features(levels, image, classes)
