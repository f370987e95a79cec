"""Loading of all models that ``nfbench predict`` accepts."""

from pathlib import Path

import torch

from nfbench.features.batches import BATCH
from nfbench.inference.exported import EXPORTED, load_exported
from nfbench.inference.model import TrainedModel
from nfbench.inference.package import is_package, read_package
from nfbench.inference.predict import Model

__all__ = ["load_model"]


def load_model(path: str | Path, device: torch.device, batch_size: int = BATCH) -> Model:
    """Loads the model of a finished run, or a packed or exported model.

    Args:
        path: folder of the run or its ``run.json``; or a file of ``nfbench pack`` or ``nfbench export``.
        device: device for computation.
        batch_size: number of images per batch; see ``TrainedModel.load``.

    Raises:
        NfbenchError: the model is unusable; the message gives the reason.
    """
    if Path(path).suffix.lower() in EXPORTED:
        return load_exported(path, device)
    if is_package(path):
        return read_package(path, device, batch_size)
    return TrainedModel.load(path, device, batch_size)
