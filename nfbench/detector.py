"""Anomaly detector in memory, from images to scores, for notebooks and scripts.

It calls the same functions as the stages for extraction, training and scoring, so the numbers are the same. It writes
no manifests, caches or records.
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
from nfbench.datasets._images import convert_picture
from nfbench.datasets._listing import images_below
from nfbench.datasets._manifest import unlisted
from nfbench.features.building import build_on
from nfbench.features.forward import Picture, load_network, load_recipe
from nfbench.features.online import OnlineFeatures, RandomRotations
from nfbench.features.tiling import cut
from nfbench.scoring.scorer import Scorer
from nfbench.training.assemble import rotation_of
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.fit import initialization_of
from nfbench.training.loop import train

__all__ = ["Detector", "Images", "Scores"]

_CHUNK = 64
"""Number of images whose features are in memory at a time during scoring; a multiple of the batch size."""

Images = str | Path | np.ndarray | Iterable[str | Path | np.ndarray | Image.Image]
"""Images: a folder (all images below it, sorted); an image file; an array ``(N, H, W, 3)`` or ``(N, H, W)`` of uint8;
or a sequence of files, arrays ``(H, W, 3)`` or ``(H, W)`` of uint8, or Pillow images."""


class Scores(NamedTuple):
    """Scores of ``N`` images. Higher is more anomalous.

    Attributes:
        images: image scores ``(N,)``, by the rule of the method's paper.
        maps: anomaly maps ``(N, H, W)`` at the backbone's input size, or merged from those of tiles; None for methods
            without maps.
    """

    images: np.ndarray
    maps: np.ndarray | None


class Detector:
    """An anomaly detector: a method on a backbone.

    Args:
        method: name of the method, such as ``fastflow``.
        backbone: name of the backbone, such as ``resnet18.tv_in1k``, or its configuration, as in an experiment.
        settings: settings of the method that differ from its paper's.
        seed: random seed.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        NfbenchError: a method, backbone or setting is unknown, weights cannot be loaded, or the method learns from
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
                f"method '{self.model.title}' with these settings learns from anomalies, which only an experiment "
                "provides; see 'anomalies' in docs/experiments.md"
            )
        self._scorer = Scorer(self.model, self.recipe, self.device, extractor)
        self._fitted = False

    def fit(self, images: Images) -> Self:
        """Trains on normal images.

        Raises:
            NfbenchError: there is no image, an image is invalid, or training diverged.
        """
        pictures = _pictures(images)
        source, degrees = None, rotation_of(self.model)
        self._scorer.merged_size = None  # an earlier fit had other images
        features = self._scorer.features(pictures)
        tiles = cut(pictures, features.tiling)
        if degrees:
            rotations = RandomRotations(tiles, self.recipe.backbone.input_size, degrees, self.model.views or None)
            source = OnlineFeatures(rotations, len(tiles), self.recipe, self.device)
        data = TrainingData(features, self.settings.val_fraction, self.seed, self.device, source)
        with tempfile.TemporaryDirectory() as folder:
            side = SideFolder(Path(folder), "detector")
            train(self.model, data, self.settings, side, self.model.title, checkpoint_seconds=math.inf)
        self.model.eval()
        self._scorer.merged_size = None if features.tiling is None else features.tiling.map_size(self.model.map_size)
        self._fitted = True
        return self

    def score(self, images: Images) -> Scores:
        """Scores images.

        Raises:
            NfbenchError: the detector is not fitted, there is no image, or an image is invalid.
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
    """Returns the images as a list.

    Raises:
        NfbenchError: there is no image, or an array is not an image.
    """
    if isinstance(images, str | Path):
        path = Path(images).expanduser()
        found: list[Any] = [path]
        if path.is_dir():
            found = images_below(path)
    elif isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] == 3:
        found = [images]  # one colour image, not a series of grey images that are 3 pixels wide
    else:
        found = list(images)
    if not found:
        raise NfbenchError(f"no image in {images}" if isinstance(images, str | Path) else "no image was given")
    return [_picture(image, number) for number, image in enumerate(found)]


def _picture(image: Any, number: int) -> Picture:
    if isinstance(image, str | Path):
        return unlisted(Path(image).expanduser())
    if isinstance(image, Image.Image):
        return convert_picture(image, f"image {number}")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise NfbenchError(
            f"image {number}: expected a uint8 array with shape (H, W, 3) or (H, W), got {array.dtype} with "
            f"{array.shape}"
        )
    return Image.fromarray(array)
