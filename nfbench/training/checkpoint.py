"""Checkpoints: what a killed training goes on from, and the models kept for the selections.

The first lie in a side folder of the run that the workflow does not know, so that a failed or killed job does not lose
them. They are keyed by the run's fingerprint: other settings, data or code start afresh.

A cluster that loses sight of a machine starts its jobs a second time while the first copies go on. Both copies of a
training may read and write the checkpoints, each of which is a whole one. The results come from the copy that ends
first, all of them. This needs no lock, only that a file or a folder is renamed in one step, as POSIX and NFS have it.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random
from torch import Tensor

from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path, remove_stale

__all__ = ["SideFolder", "load_kept", "load_state", "save_kept", "save_state"]

_log = logging.getLogger(__name__)
_SEPARATOR = "/"
_MARKER = "training.json"
_UNDER_REMOVAL = retry(
    retry=retry_if_exception_type((FileNotFoundError, FileExistsError)),
    stop=stop_after_attempt(100),
    wait=wait_random(0, 0.01),
    reraise=True,
)
"""For what is written as another copy of the training, which has ended, removes the folder; it may also be gone when
``mkdir`` looks at what it found there, which is then a ``FileExistsError``."""


class SideFolder:
    """Checkpoints and results of an unfinished training, ``<run>/.resume/<fingerprint>/``.

    Args:
        run_folder: folder of the run, which has a ``training.json`` when the training is done.
        fingerprint: hash of all that determines the training.
    """

    def __init__(self, run_folder: Path, fingerprint: str) -> None:
        self.run = run_folder
        self.folder = run_folder / ".resume" / fingerprint
        self.path = self.folder / "state.pt"
        self._finished = self.folder / "finished"

    def begin(self) -> None:
        """Says that the run is not done, also where an earlier training was or was killed as it published."""
        (self.run / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(self._finished, ignore_errors=True)

    @_UNDER_REMOVAL
    def save(self, state: dict[str, Any]) -> None:
        """Writes the state of a training after an epoch."""
        remove_stale(self.folder)
        with atomic_path(self.path) as temporary:
            _save_torch(state, temporary, self.path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The last state, or None where there is none."""
        with suppress(FileNotFoundError):
            return torch.load(self.path, map_location=device, weights_only=True)
        return None

    @contextmanager
    def publish(self) -> Iterator[Path]:
        """A folder for the results; when the block ends well, they move to the run's folder, ``training.json`` last.

        Of several copies of a training, it is the results of the first that ends, and nothing of the others'.

        Raises:
            NfbenchError: another training of the run has begun meanwhile.
        """
        staged = self._stage()
        try:
            yield staged
            self._move(staged)
        except (OSError, NfbenchError):
            if not self._is_done():  # else another copy has ended, and removed the folder before this one was done
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self.remove()

    @_UNDER_REMOVAL
    def _stage(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _move(self, staged: Path) -> None:
        """Lets the first copy that comes here put its files into the run's folder; a second one helps it."""
        with suppress(OSError):  # a folder that is there, of the copy that was first, cannot be replaced
            staged.rename(self._finished)
        if self._is_done():
            _log.warning("%s: another process has ended this training before; its results stay", self.run)
            return
        for path in sorted(self._finished.iterdir(), key=lambda path: path.name == _MARKER):
            with suppress(FileNotFoundError):  # the other copy has moved it
                os.replace(path, self.run / path.name)
        if not self._is_done():
            raise NfbenchError(f"{self.run}: another process has begun this training anew, and will end it")

    def _is_done(self) -> bool:
        return (self.run / _MARKER).exists()

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
        if not temporary.exists():
            raise FileNotFoundError(f"{temporary} was removed") from error
        raise NfbenchError(f"{path} cannot be written: {error}; is the disk full?") from error
