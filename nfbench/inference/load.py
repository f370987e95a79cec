"""What ``nfbench predict`` can score images with."""

from pathlib import Path

import torch

from nfbench.features.batches import BATCH
from nfbench.inference.exported import EXPORTED, load_exported
from nfbench.inference.model import TrainedModel
from nfbench.inference.predict import Model

__all__ = ["load_model"]


def load_model(path: str | Path, device: torch.device, batch_size: int = BATCH) -> Model:
    """The model of a finished run, or of an exported file.

    Args:
        path: folder of the run or its ``run.json``; a file of ``nfbench export``.
        device: where to compute.
        batch_size: images that the model is given at once; see ``TrainedModel.load``.

    Raises:
        NfbenchError: it cannot be used; says why.
    """
    if Path(path).suffix.lower() in EXPORTED:
        return load_exported(path, device)
    return TrainedModel.load(path, device, batch_size)
