"""A method on a backbone, from images to scores, in memory: for notebooks and scripts.

The same functions as those of the stages extract, train and score, so that the numbers are the same; there are no
manifests, caches and records.
"""

import math
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from nfbench.blocks.method import resolve_settings
from nfbench.blocks.network import check_backbone
from nfbench.config import BackboneConfig, validate
from nfbench.core.device import pick_device
from nfbench.core.errors import NfbenchError
from nfbench.datasets._listing import images_below
from nfbench.datasets._manifest import unlisted
from nfbench.features.building import build_on
from nfbench.features.forward import Picture, load_network, load_recipe
from nfbench.features.online import OnlineFeatures, RandomRotations
from nfbench.scoring.scorer import Scorer
from nfbench.training.assemble import rotation_of
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.fit import initialization_of
from nfbench.training.loop import train

__all__ = ["Detector", "Images", "Scores"]

_CHUNK = 64
"""Images whose features are in memory at a time while they are scored; a multiple of a batch."""

Images = str | Path | np.ndarray | Iterable[str | Path | np.ndarray | Image.Image]
"""A folder, with all images in it and below, sorted; an image file; an array ``(N, H, W, 3)`` or ``(N, H, W)`` of
uint8; or several files, arrays ``(H, W, 3)`` or ``(H, W)`` of uint8, or Pillow images."""


class Scores(NamedTuple):
    """Scores of ``N`` images. Higher is more anomalous.

    Attributes:
        images: image scores ``(N,)``, by the rule of the method's paper.
        maps: anomaly maps ``(N, H, W)`` at the backbone's input size; None of methods that make none.
    """

    images: np.ndarray
    maps: np.ndarray | None


class Detector:
    """An anomaly detector.

    Args:
        method: name of the method, such as ``fastflow``.
        backbone: its name, such as ``resnet18.tv_in1k``, or its configuration, as in an experiment.
        settings: of the method, where they differ from its paper's.
        seed: of all that is random.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        NfbenchError: unknown method, backbone or setting, weights that cannot be had, or a method that learns from
            anomalies.
    """

    def __init__(
        self,
        method: str,
        backbone: str | Mapping[str, Any] | BackboneConfig,
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        config = _config(backbone)
        self.device, self.seed = pick_device(device), seed
        self.settings = resolve_settings(method, backbone=config.name, overrides=settings)
        self.recipe, extractor = load_recipe(config)
        network = partial(load_network, self.recipe)
        self.model = build_on(config, method, self.settings, initialization_of(seed), network=network).to(self.device)
        check_backbone(self.model, config)
        if self.model.needs_anomalies:
            raise NfbenchError(
                f"method '{self.model.title}' with these settings learns from anomalies, which an experiment has; "
                "see 'anomalies' in docs/experiments.md"
            )
        self._scorer = Scorer(self.model, self.recipe, self.device, extractor)
        self._fitted = False

    def fit(self, images: Images) -> Self:
        """Trains on normal images.

        Raises:
            NfbenchError: no image, a bad one, or the training was lost.
        """
        pictures = _pictures(images)
        source, degrees = None, rotation_of(self.model)
        if degrees:
            rotations = RandomRotations(pictures, self.recipe.backbone.input_size, degrees, self.model.views or None)
            source = OnlineFeatures(rotations, len(pictures), self.recipe, self.device)
        data = TrainingData(self._scorer.features(pictures), self.settings.val_fraction, self.seed, self.device, source)
        with tempfile.TemporaryDirectory() as folder:
            side = SideFolder(Path(folder), "detector")
            train(self.model, data, self.settings, side, self.model.title, checkpoint_seconds=math.inf)
        self.model.eval()
        self._fitted = True
        return self

    def score(self, images: Images) -> Scores:
        """Scores images.

        Raises:
            NfbenchError: not fitted, no image, or a bad one.
        """
        if not self._fitted:
            raise NfbenchError("this detector is not trained; call 'fit' with normal images first")
        pictures = _pictures(images)
        parts = [self._scorer.score(pictures[first : first + _CHUNK]) for first in range(0, len(pictures), _CHUNK)]
        maps = [part.maps for part in parts if part.maps is not None]
        return Scores(np.concatenate([part.images["paper"] for part in parts]), np.concatenate(maps) if maps else None)


def _config(backbone: str | Mapping[str, Any] | BackboneConfig) -> BackboneConfig:
    if isinstance(backbone, BackboneConfig):
        return backbone
    return validate(BackboneConfig, {"name": backbone} if isinstance(backbone, str) else dict(backbone), "backbone")


def _pictures(images: Images) -> list[Picture]:
    """The images one by one.

    Raises:
        NfbenchError: there is none, or an array is no image.
    """
    if isinstance(images, str | Path):
        path = Path(images).expanduser()
        found: list[Any] = [path]
        if path.is_dir():
            found = images_below(path)
    elif isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3:
        found = [images]  # one image in colour, not a row of grey ones that are 3 pixels wide
    else:
        found = list(images)
    if not found:
        raise NfbenchError(f"no image in {images}" if isinstance(images, str | Path) else "no image was given")
    return [_picture(image, number) for number, image in enumerate(found)]


def _picture(image: Any, number: int) -> Picture:
    if isinstance(image, str | Path):
        return unlisted(Path(image).expanduser())
    if isinstance(image, Image.Image):
        return image
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise NfbenchError(
            f"image {number}: an array of an image is uint8 with shape (H, W, 3) or (H, W), not {array.dtype} with "
            f"{array.shape}"
        )
    return Image.fromarray(array)
