"""Memory that a job asks for, estimated from the shapes of its features and the number and size of its images.

A method whose memory is not that of a flow says so in its module by a literal ``MEMORY``. It is read without importing
the method, since the plan is made where torch may be missing:

``parameters``: trainable parameters for each pair of channels of a level (``sum_l C_l^2``).
``network``: further trainable parameters, those of a network that does not depend on the features.
``pixels``: bytes of a training step for each pixel of an image, of a network that is trained on images.
``state``: bytes for each position of the finest level and each pair of all channels, of which ``channels`` count.
``patches``: bytes for each position of the finest level in each training image.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest, plugin_literal
from nfbench.datasets._manifest import Entry, read_manifest
from nfbench.plan.specs import EvaluateSpec, ScoreSpec, SearchSpec, Spec, TrainSpec

__all__ = ["coefficients", "feature_bytes", "gpu_mb", "memory_mb"]

_FLOW = {"parameters": 64.0, "network": 0.0, "pixels": 0.0, "state": 0.0, "channels": math.inf, "patches": 0.0}
_PROCESS = 900e6
"""Bytes of a process that trains or evaluates a small model."""
_PARAMETER = 4.0 * (1 + 1 + 2 + 5)
"""Bytes of a parameter: value, gradient, two moments of Adam, and five kept models."""
_ON_GPU = 4.0 * (1 + 1 + 2)
"""The same on a GPU: kept models are in the host's memory."""
_ACTIVATIONS = 64.0
"""Bytes for each value of the features of a batch of ``_BATCH`` images, of all steps of a flow."""
_BATCH = 16
_FP16 = 2
_IMAGES, _PIXELS = 400, 1024 * 1024
"""Images of a split, and their size, where there is no manifest yet."""
_STEP = 500
_IN_FILES = 1e9
"""Bytes in memory of what lies in files where it is larger, see ``nfbench.core.scratch``."""
_SAFETY = 1.5


def memory_mb(spec: Spec, default: int) -> int:
    """Megabytes that a training, a search or an evaluation asks for; ``default`` of other stages."""
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
    """Megabytes on a GPU that a training or a search computes in; 0 of other stages.

    Parameters with gradient and Adam's moments, the activations of a batch, and what the method itself keeps. Features
    come on top where half of the GPU's free memory takes them, and stay in the host's memory otherwise.
    """
    if not isinstance(spec, TrainSpec | SearchSpec):
        return 0
    needed = max(
        _step(method, backbone) + _model(method, backbone, images, _ON_GPU)
        for method, backbone, images in _models(spec)
    )
    return math.ceil(_SAFETY * needed / 1e6)


def _models(spec: TrainSpec | SearchSpec) -> Iterator[tuple[str, BackboneConfig, int]]:
    """Method, backbone and number of training images of each model that a job trains."""
    if isinstance(spec, TrainSpec):
        entries = [entry for one in spec.classes for entry in _entries(one.manifest)]
        yield spec.method, spec.backbone, _count(entries, "train", _IMAGES * len(spec.classes))
        return
    images, variant = _count(_entries(spec.study.manifest), "train", _IMAGES), spec.study.variant
    yield from ((variant.method, backbone, images) for backbone in variant.searched.backbones)


@cache
def coefficients(method: str) -> Mapping[str, float]:
    """What the memory of a method depends on: its module's ``MEMORY``, those of a flow where it says nothing."""
    found = {**_FLOW, **(plugin_literal("nfbench.methods", method, "MEMORY") or {})}
    if unknown := sorted(found.keys() - _FLOW.keys()):
        raise NfbenchError(f"nfbench/methods/{method}.py: 'MEMORY' has no '{unknown[0]}'{nearest(unknown[0], _FLOW)}")
    return found


def _training(method: str, backbone: BackboneConfig, images: int) -> float:
    """Bytes: process, features kept in memory, activations of a batch, parameters, and what the method itself keeps."""
    features = images * feature_bytes(backbone)
    return _PROCESS + features + _step(method, backbone) + _model(method, backbone, images)


def feature_bytes(backbone: BackboneConfig) -> int:
    """Bytes of one image's features in a cache, all rotated views and the image where it is kept."""
    image = [backbone.image_shape] if backbone.image_shape else []
    values = sum(math.prod(shape) for shape in [*image, *backbone.level_shapes.values()])
    return _FP16 * max(1, backbone.rotations) * values


def _step(method: str, backbone: BackboneConfig) -> float:
    """Bytes of the activations of a batch."""
    views = max(1, backbone.rotations)
    levels = views * sum(math.prod(shape) for shape in backbone.level_shapes.values())
    return _BATCH * (_ACTIVATIONS * levels + views * backbone.input_size**2 * coefficients(method)["pixels"])


def _scoring(spec: ScoreSpec) -> float:
    """Bytes: process, model, and the maps of the test images."""
    entries = _entries(spec.manifest)
    train, test = _count(entries, "train", _IMAGES), _count(entries, "test", _IMAGES)
    maps = 8.0 * spec.backbone.input_size**2 * test
    return _PROCESS + min(maps, _IN_FILES) + _model(spec.method, spec.backbone, train)


def _evaluation(spec: EvaluateSpec) -> float:
    """Bytes: process, maps, also of the Number of False Alarms, the sort of all pixels, and what is known of each."""
    entries = _entries(spec.manifest)
    test = _count(entries, "test", _IMAGES)
    pixels = sum(entry.height * entry.width for entry in entries if entry.split == "test") or _PIXELS * test
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
    """Rows of a manifest; none where it is not there yet, or damaged, which its readers say."""
    try:
        return read_manifest(manifest)
    except NfbenchError:
        return ()


def _count(entries: Sequence[Entry], split: str, default: int) -> int:
    return sum(entry.split == split for entry in entries) or default
