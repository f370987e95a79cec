"""What ``nfbench predict`` can score images with."""

from pathlib import Path

import torch

from nfbench.inference.model import TrainedModel
from nfbench.inference.package import is_package, read_package
from nfbench.inference.predict import Model

__all__ = ["load_model"]


def load_model(path: str | Path, device: torch.device) -> Model:
    """The model of a finished run, or of a packed one.

    Args:
        path: folder of the run, its ``run.json``, or a file of ``nfbench pack``.
        device: where to compute.

    Raises:
        NfbenchError: it cannot be used; says why.
    """
    if is_package(path):
        return read_package(path, device)
    return TrainedModel.load(path, device)
