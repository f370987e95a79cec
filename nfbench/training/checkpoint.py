"""Checkpoints: what a killed training goes on from, and the models kept for the selections.

The first lie in a side folder of the run that the workflow does not know, so that a failed or killed job does not lose
them. They are keyed by the run's fingerprint: other settings, data or code start afresh.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nfbench.errors import NfbenchError
from nfbench.files import atomic_path, remove_stale

__all__ = ["SideFolder", "load_kept", "load_state", "save_kept", "save_state"]

_SEPARATOR = "/"


class SideFolder:
    """Checkpoints of an unfinished training, ``<run>/.resume/<fingerprint>/``.

    Args:
        run_folder: folder of the run.
        fingerprint: hash of all that determines the training.
    """

    def __init__(self, run_folder: Path, fingerprint: str) -> None:
        self.folder = run_folder / ".resume" / fingerprint
        self.path = self.folder / "state.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state of a training after an epoch."""
        remove_stale(self.folder)
        with atomic_path(self.path) as temporary:
            _save_torch(state, temporary, self.path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The last state, or None where there is none."""
        if not self.path.exists():
            return None
        return torch.load(self.path, map_location=device, weights_only=True)

    def remove(self) -> None:
        """Removes the side folder, and those of other fingerprints: the run is done."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Writes the state of one model as safetensors, atomically.

    Raises:
        NfbenchError: the disk is full.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # it does not pass the operating system's error number on
            raise NfbenchError(f"{path} cannot be written: {error}; is the disk full?") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Reads the state of one model.

    Raises:
        NfbenchError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing") from None
    except SafetensorError as error:
        raise NfbenchError(f"{path} cannot be read: {error}; delete it and train again") from error


def save_kept(path: Path, kept: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Writes the models of several epochs into one file."""
    save_state(path, {f"{epoch}{_SEPARATOR}{name}": v for epoch, state in kept.items() for name, v in state.items()})


def load_kept(path: Path) -> dict[int, dict[str, Tensor]]:
    """Reads the models of several epochs, by epoch."""
    kept: dict[int, dict[str, Tensor]] = {}
    for key, value in load_state(path).items():
        epoch, _, name = key.partition(_SEPARATOR)
        kept.setdefault(int(epoch), {})[name] = value
    return dict(sorted(kept.items()))


def _save_torch(state: dict[str, Any], temporary: Path, path: Path) -> None:
    try:
        torch.save(state, temporary)
    except RuntimeError as error:  # torch's zip writer does not pass the operating system's error number on
        raise NfbenchError(f"{path} cannot be written: {error}; is the disk full?") from error
