"""One training: from the images of each class to a trained model."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from nfbench.blocks.method import Method
from nfbench.blocks.settings import EpochSettings, MethodSettings
from nfbench.core.errors import memory_faults
from nfbench.core.provenance import derive_seed
from nfbench.features.building import build_on
from nfbench.features.forward import load_network
from nfbench.plan.cells import Cell
from nfbench.training.assemble import Images, assemble
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import OnKept, TrainingResult, train

__all__ = ["Fitted", "fit", "initialization_of", "seed_of"]


@dataclass(frozen=True)
class Fitted:
    """A trained model, in evaluation mode, and its training data.

    Attributes:
        initialization: seed of the initial weights.
        side: folder of its checkpoints, which also publishes its results.
    """

    model: Method
    data: TrainingData
    result: TrainingResult
    initialization: int
    side: SideFolder


def fit(
    cell: Cell,
    method: str,
    settings: MethodSettings,
    images: Sequence[Images],
    device: torch.device,
    folder: Path,
    origin: str,
    checkpoint_seconds: float = 20.0,
    on_kept: OnKept | None = None,
) -> Fitted:
    """Train the model of a cell; resume from a checkpoint of the same training in ``folder``.

    Args:
        cell: determines all random choices.
        method: name of the method.
        settings: settings of the method.
        images: inputs from each class, ordered by class number.
        device: device to compute on.
        folder: folder of the run; it will contain the side folder of checkpoints.
        origin: hash of everything else that determines the training: its spec, or only the code; see
            ``nfbench.plan.job.code_of``.
        checkpoint_seconds: minimum time between two checkpoints; see ``CheckpointPace``.
        on_kept: see ``train``.

    Raises:
        NfbenchError: method and data do not match, the training diverged, or it ran out of memory.
    """
    cache, seed = images[0].features, seed_of(cell)
    initialization = initialization_of(seed)
    side = SideFolder(folder, _fingerprint(cell, settings, images, origin))
    with memory_faults(str(cell), _less_memory(settings)):
        network = partial(load_network, cache.meta.recipe)
        model = build_on(cache.meta.backbone, method, settings, initialization, len(images), network)
        data = assemble(model.to(device), images, seed, device)
        side.begin()
        result = train(model, data, settings, side, str(cell), checkpoint_seconds, on_kept)
    return Fitted(model.eval(), data, result, initialization, side)


def _less_memory(settings: MethodSettings) -> str:
    """Settings to lower if a training runs out of memory."""
    image = "the backbone's 'input_size'"
    if isinstance(settings, EpochSettings):
        return f"lower the variant's 'batch_size' (now {settings.batch_size}) or {image}"
    return f"lower {image} or choose fewer 'levels'"


def seed_of(cell: Cell) -> int:
    """Seed of split, order and random draws of a cell's training, the same under all conditions."""
    return derive_seed(cell.seed, *(value for name, value in vars(cell).items() if name != "condition"))


def initialization_of(seed: int) -> int:
    """Seed of the initial weights of a training with this seed."""
    return derive_seed(seed, "initialization")


def _fingerprint(cell: Cell, settings: MethodSettings, images: Sequence[Images], origin: str) -> str:
    """Hash of everything that determines a training; only checkpoints with the same fingerprint are resumed."""
    anomalies = images[0].anomalies
    caches = [used.meta.key for one in images for used in (one.features, one.pseudo, one.test) if used]
    masks = [entry.mask_sha256 for one in images for entry in one.real]
    described = anomalies and anomalies.model_dump(mode="json")
    text = json.dumps([str(cell), settings.model_dump(mode="json"), described, caches, masks, origin], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
