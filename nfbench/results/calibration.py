"""How fast this machine is: a step or two of what jobs do, on random features of the right shapes.

Times are those of one thread on a CPU, as jobs have, or of the GPU. Reading images is not part of them.
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
"""Images of a batch; a step takes about the same time for each image of larger ones on a CPU."""
_SHARE_OF_MEMORY = 0.7
_PIXELS = 2 * 512**2
_MEASURED = (RuntimeError, ValueError, NotImplementedError)
"""What a model without a training may raise; its time is then not known."""


class Calibration:
    """Measures seconds for each image, once for each kind of job.

    Args:
        device: where jobs compute.
        budget: seconds after which nothing further is begun.
    """

    def __init__(self, device: torch.device, budget: float) -> None:
        self.device, self._ends = device, time.monotonic() + budget
        self.extraction = cache(self._extraction)
        self._models: dict[Any, tuple[float | None, float | None]] = {}

    def training(self, method: str, settings: MethodSettings, backbone: BackboneConfig, classes: int) -> float | None:
        """Seconds of a step for each image; None where time or memory is up, or nothing is trained by steps."""
        return self._of_model(method, settings, backbone, classes)[0]

    def scoring(self, method: str, settings: MethodSettings, backbone: BackboneConfig, classes: int) -> float | None:
        """Seconds of a model's scores for each image; None where time or memory is up."""
        return self._of_model(method, settings, backbone, classes)[1]

    @cached_property
    def metrics(self) -> float | None:
        """Seconds of the metrics for each pixel of the test images."""

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
        """Seconds of the pass through a backbone for each image, by random weights; None where time is up."""
        if not backbone.level_shapes or self._is_over:
            return None if backbone.level_shapes else 0.0
        _, model = load_recipe(backbone.model_copy(update={"weights": "random"}))
        model = model.to(self.device)
        images = torch.randn(_IMAGES, 3, backbone.input_size, backbone.input_size, device=self.device)
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
        for name, rows in model.grown_rows(_IMAGES).items():  # what a fit to more images leaves takes longer
            buffer = model.get_buffer(name)
            setattr(model, name, torch.rand(rows, *buffer.shape[1:], dtype=buffer.dtype, device=self.device))
        with torch.no_grad():
            return trained, self._timed(lambda: model.score(features), _IMAGES)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._ends

    def _timed(self, measured: Callable[[], object], images: int) -> float | None:
        """Seconds for each image, of a second call where the first one was fast."""
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
    """One pass over a batch, with all steps of the optimizer that it takes."""
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
    """Where features are."""
    return next(features.parts()).device


def _random_features(model: Method, backbone: BackboneConfig, device: torch.device) -> Features[Tensor]:
    outer = (_IMAGES, backbone.rotations) if backbone.rotations else (_IMAGES,)
    levels = [torch.randn(*outer, *shape, device=device) for shape in backbone.level_shapes.values()]
    image = torch.randn(*outer, *backbone.image_shape, device=device) if backbone.image_shape else None
    classes = torch.zeros(_IMAGES, dtype=torch.long, device=device) if model.takes_class else None
    return Features(levels, image, classes)
