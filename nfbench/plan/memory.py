"""Memory of a job, estimated from the shapes of its features and the number and size of its images.

A method that does not use memory like a flow declares so with a literal ``MEMORY`` in its module. It is read without
importing the method, since torch may be missing where the plan is built. Keys:

``parameters``: trainable parameters per pair of channels of a level (``sum_l C_l^2``).
``network``: additional trainable parameters of a network that does not depend on the features.
``pixels``: bytes of a training step per pixel of an image, for a network that is trained on images.
``state``: bytes per position of the finest level and pair of channels; at most ``channels`` channels count.
``patches``: bytes per position of the finest level in each training image.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest, plugin_literal
from nfbench.datasets._manifest import Entry, read_manifest
from nfbench.plan.specs import EvaluateSpec, ScoreSpec, SearchSpec, Spec, TrainSpec

__all__ = ["SIDE", "coefficients", "feature_bytes", "gpu_mb", "largest", "map_pixels", "memory_mb"]

_FLOW = {"parameters": 64.0, "network": 0.0, "pixels": 0.0, "state": 0.0, "channels": math.inf, "patches": 0.0}
_PROCESS = 900e6
"""Base memory in bytes of a process that trains or evaluates a small model."""
_PARAMETER = 4.0 * (1 + 1 + 2 + 5)
"""Bytes per parameter: value, gradient, two moments of Adam, and five kept models."""
_ON_GPU = 4.0 * (1 + 1 + 2)
"""Bytes per parameter on a GPU; kept models are in host memory."""
_ACTIVATIONS = 64.0
"""Bytes per feature value of a batch of ``_BATCH`` images, over all steps of a flow."""
_BATCH = 16
_FP16 = 2
_IMAGES, SIDE = 400, 1024
"""Number of images of a split, and their side in pixels, if there is no manifest yet."""
_STEP = 500
_IN_FILES = 1e9
"""Bytes kept in memory of data that is written to files if larger; see ``nfbench.core.scratch``."""
_SAFETY = 1.5


def memory_mb(spec: Spec, default: int) -> int:
    """Returns the megabytes that a training, search, scoring or evaluation needs; ``default`` for other stages."""
    if isinstance(spec, TrainSpec | SearchSpec):
        needed = max(_training(*model) for model in _models(spec))
    elif isinstance(spec, ScoreSpec):
        needed = _scoring(spec)
    elif isinstance(spec, EvaluateSpec):
        needed = _evaluation(spec)
    else:
        return default
    return _STEP * math.ceil(_SAFETY * needed / 1e6 / _STEP)


def gpu_mb(spec: Spec) -> int:
    """Returns the megabytes of GPU memory that a training or search needs; 0 for other stages.

    Includes parameters with gradients and Adam's moments, the activations of a batch, and what the method itself keeps.
    Excludes features, which are placed on the GPU only if they fit into half of its free memory.
    """
    if not isinstance(spec, TrainSpec | SearchSpec):
        return 0
    needed = max(
        _step(method, backbone) + _model(method, backbone, images, _ON_GPU)
        for method, backbone, images in _models(spec)
    )
    return math.ceil(_SAFETY * needed / 1e6)


def _models(spec: TrainSpec | SearchSpec) -> Iterator[tuple[str, BackboneConfig, int]]:
    """Yields method, backbone and number of training images, or tiles, of each model that a job trains."""
    if isinstance(spec, TrainSpec):
        entries = [entry for one in spec.classes for entry in _entries(one.manifest)]
        yield spec.method, spec.backbone, _rows(spec.backbone, entries, "train", _IMAGES * len(spec.classes))
        return
    images, variant = _entries(spec.study.manifest), spec.study.variant
    for backbone in variant.searched.backbones:
        yield variant.method, backbone, _rows(backbone, images, "train", _IMAGES)


@cache
def coefficients(method: str) -> Mapping[str, float]:
    """Returns the memory coefficients of a method: its module's ``MEMORY``, with the defaults of a flow."""
    found = {**_FLOW, **(plugin_literal("nfbench.methods", method, "MEMORY") or {})}
    if unknown := sorted(found.keys() - _FLOW.keys()):
        hint = nearest(unknown[0], _FLOW)
        raise NfbenchError(f"nfbench/methods/{method}.py: unknown key '{unknown[0]}' in 'MEMORY'{hint}")
    return found


def _training(method: str, backbone: BackboneConfig, images: int) -> float:
    """Returns the bytes of process, features in memory, activations, parameters and state of the method."""
    features = images * feature_bytes(backbone)
    return _PROCESS + features + _step(method, backbone) + _model(method, backbone, images)


def feature_bytes(backbone: BackboneConfig) -> int:
    """Returns the bytes of the cached features of one row, with all rotated views and the image if it is kept."""
    image = [backbone.image_shape] if backbone.image_shape else []
    values = sum(math.prod(shape) for shape in [*image, *backbone.level_shapes.values()])
    return _FP16 * max(1, backbone.rotations) * values


def _step(method: str, backbone: BackboneConfig) -> float:
    """Returns the bytes of the activations of a batch."""
    views = max(1, backbone.rotations)
    levels = views * sum(math.prod(shape) for shape in backbone.level_shapes.values())
    return _BATCH * (_ACTIVATIONS * levels + views * math.prod(backbone.size) * coefficients(method)["pixels"])


def _scoring(spec: ScoreSpec) -> float:
    """Returns the bytes of process, model, and maps of the test images."""
    entries = _entries(spec.manifest)
    train, test = _rows(spec.backbone, entries, "train", _IMAGES), _count(entries, "test", _IMAGES)
    maps = 8.0 * map_pixels(spec.backbone, largest(entries)) * test
    return _PROCESS + min(maps, _IN_FILES) + _model(spec.method, spec.backbone, train)


def _evaluation(spec: EvaluateSpec) -> float:
    """Returns the bytes of process, maps (also of the Number of False Alarms), and the sorted pixels with labels."""
    entries = _entries(spec.manifest)
    test = _count(entries, "test", _IMAGES)
    pixels = sum(entry.height * entry.width for entry in entries if entry.split == "test") or SIDE**2 * test
    return _PROCESS + min(32.0 * pixels, 3 * _IN_FILES) + 0.5 * pixels


def _model(method: str, backbone: BackboneConfig, images: int, of_parameter: float = _PARAMETER) -> float:
    found, shapes = coefficients(method), list(backbone.level_shapes.values())
    pairs = sum(channels**2 for channels, _, _ in shapes)
    channels = min(found["channels"], sum(channels for channels, _, _ in shapes))
    positions = math.prod(shapes[0][1:]) if shapes else 0
    of_positions = positions * (found["state"] * channels**2 + found["patches"] * images)
    return of_parameter * (found["parameters"] * pairs + found["network"]) + of_positions


@cache
def _entries(manifest: str) -> Sequence[Entry]:
    """Returns the rows of a manifest; none if it is missing or damaged, which its readers report."""
    try:
        return read_manifest(manifest)
    except NfbenchError:
        return ()


def map_pixels(backbone: BackboneConfig, image: tuple[int, int]) -> int:
    """Returns the number of pixels of an image's map, given the height and width of the largest image."""
    return math.prod(backbone.tiles.map_size(image, backbone.size) if backbone.tiles else backbone.size)


def largest(entries: Sequence[Entry]) -> tuple[int, int]:
    """Returns the height and width that all images fit in, ``SIDE`` without images."""
    return max((e.height for e in entries), default=SIDE), max((e.width for e in entries), default=SIDE)


def _rows(backbone: BackboneConfig, entries: Sequence[Entry], split: str, default: int) -> int:
    """Returns the number of images of a split, or of their tiles if the backbone cuts images."""
    tiles, count = backbone.tiles, _count(entries, split, default)
    if tiles is None:
        return count
    found = sum(tiles.count(entry.height, entry.width) for entry in entries if entry.split == split)
    return found or count * tiles.count(*largest(entries))


def _count(entries: Sequence[Entry], split: str, default: int) -> int:
    return sum(entry.split == split for entry in entries) or default
