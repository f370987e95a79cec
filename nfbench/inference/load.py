"""What ``nfbench predict`` can score images with."""

from pathlib import Path

import torch

from nfbench.features.batches import BATCH
from nfbench.inference.exported import EXPORTED, load_exported
from nfbench.inference.model import TrainedModel
from nfbench.inference.package import is_package, read_package
from nfbench.inference.predict import Model

__all__ = ["load_model"]


def load_model(path: str | Path, device: torch.device, batch_size: int = BATCH) -> Model:
    """The model of a finished run, or of a file that was packed or exported.

    Args:
        path: folder of the run or its ``run.json``; a file of ``nfbench pack`` or ``nfbench export``.
        device: where to compute.
        batch_size: images that the model is given at once; see ``TrainedModel.load``.

    Raises:
        NfbenchError: it cannot be used; says why.
    """
    if Path(path).suffix.lower() in EXPORTED:
        return load_exported(path, device)
    if is_package(path):
        return read_package(path, device, batch_size)
    return TrainedModel.load(path, device, batch_size)
