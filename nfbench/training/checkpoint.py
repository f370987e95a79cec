"""Checkpoints for resuming a killed training, and the models kept for the selections.

Checkpoints are stored in a side folder of the run that is not an output of the workflow, so a failed or killed job does
not lose them. Their key is the fingerprint of the training: other settings, data or code start from the beginning.

A cluster that loses contact with a machine may start a job again while its first copy still runs. Both copies of a
training may read and write checkpoints, because each write is atomic. All results come from the copy that ends first.
No lock is needed: a rename of a file or folder is atomic on POSIX file systems and NFS.

Among trainings with different fingerprints, the last one started owns the run's folder: a job that outlived its
Snakemake process may still train with outdated settings. The others end with an error at their next checkpoint.
"""

import logging
import os
import shutil
import tempfile
import time
import zipfile
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
from nfbench.core.files import atomic_path, read_json, remove_stale, write_text

__all__ = ["CheckpointPace", "SideFolder", "load_kept", "load_state", "save_kept", "save_state"]

_log = logging.getLogger(__name__)
_SEPARATOR = "/"
_MARKER = "training.json"
_LARGEST_SHARE = 0.05
_ASSUMED_SPEED = 200e6
_UNDER_REMOVAL = retry(
    retry=retry_if_exception_type((FileNotFoundError, FileExistsError)),
    stop=stop_after_attempt(100),
    wait=wait_random(0, 0.01),
    reraise=True,
)
"""Retries a write while another copy of the training, which has ended, removes the folder. ``mkdir`` raises
``FileExistsError`` if the folder vanishes between its attempt and its check."""


class SideFolder:
    """Checkpoints and results of an unfinished training, ``<run>/.resume/<fingerprint>/``.

    Args:
        run_folder: folder of the run; it contains ``training.json`` when the training is done.
        fingerprint: hash of everything that determines the training; ``training.json`` contains it too.
    """

    def __init__(self, run_folder: Path, fingerprint: str) -> None:
        self.run, self.fingerprint = run_folder, fingerprint
        self.folder = run_folder / ".resume" / fingerprint
        self.path = self.folder / "state.pt"
        self._before = self.folder / "before.pt"
        self._finished = self.folder / "finished"
        self._claim = self.folder.with_name("claim")

    @_UNDER_REMOVAL
    def begin(self) -> None:
        """Claim the run's folder and mark the run as not done, even if it was done or was killed while publishing."""
        write_text(self._claim, self.fingerprint)
        (self.run / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(self._finished, ignore_errors=True)

    @_UNDER_REMOVAL
    def save(self, state: dict[str, Any]) -> None:
        """Write the state of a training after an epoch, and the new models in ``state["kept"]``.

        The previous checkpoint stays until the next one is written.

        Raises:
            NfbenchError: the disk is full, or another training has claimed the folder.
        """
        self._require_claim()
        remove_stale(self.folder)
        for epoch, model in state["kept"].items():
            if not self._kept(epoch).exists():
                self._write({"model": model}, self._kept(epoch))
        with suppress(FileNotFoundError):  # this is the first checkpoint, or another copy has moved it
            self.path.replace(self._before)
        self._write({**state, "kept": list(state["kept"])}, self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the last undamaged state, on the CPU, or None; damaged files are renamed."""
        for path in (self.path, self._before):
            state = self._read(path)
            kept = {epoch: self._read(self._kept(epoch)) for epoch in state["kept"]} if state else {}
            if state and all(kept.values()):
                return {**state, "kept": {epoch: found["model"] for epoch, found in kept.items() if found}}
        return None

    def _kept(self, epoch: int) -> Path:
        return self.folder / f"kept{epoch}.pt"

    def _write(self, content: dict[str, Any], path: Path) -> None:
        with atomic_path(path) as temporary:
            _save_torch({**content, "fingerprint": self.fingerprint}, temporary, path)

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return _load_torch(path, self.fingerprint)
        except FileNotFoundError:
            return None
        except NfbenchError as error:
            aside = path.with_suffix(".damaged.pt")
            with suppress(FileNotFoundError):  # another copy has renamed it
                path.replace(aside)
            _log.warning(
                "%s; renamed to %s; the training continues from the previous checkpoint, or from the start",
                error,
                aside.name,
            )
            return None

    @contextmanager
    def publish(self) -> Iterator[Path]:
        """Yield a folder for the results; if the block succeeds, they move to the run's folder, ``training.json`` last.

        If several copies of a training run, the results are those of the first that ends.

        Raises:
            NfbenchError: another training of the run has started in the meantime.
        """
        self._require_claim()
        staged = self._stage()
        try:
            yield staged
            self._move(staged)
        except (OSError, NfbenchError):
            if not self._is_done():  # else another copy has ended first and removed the folder
                raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self.remove()

    @_UNDER_REMOVAL
    def _stage(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _move(self, staged: Path) -> None:
        """Publish the files of the first copy that gets here; a second copy completes the move of the same files."""
        self._require_claim()
        with suppress(OSError):  # the folder of the first copy exists and cannot be replaced
            staged.rename(self._finished)
        if self._is_done():
            _log.warning("%s: another process has finished this training first; its results are kept", self.run)
            return
        for path in sorted(self._finished.iterdir(), key=lambda path: path.name == _MARKER):
            with suppress(FileNotFoundError):  # the other copy has moved it
                os.replace(path, self.run / path.name)
        if not self._is_done():
            raise NfbenchError(f"{self.run}: another process has restarted this training and will finish it")

    def _is_done(self) -> bool:
        return self._published() == self.fingerprint

    def _published(self) -> str | None:
        """Fingerprint of the training whose results are in the run's folder; None if there are none."""
        try:
            return read_json(self.run / _MARKER)["fingerprint"]
        except (NfbenchError, TypeError, KeyError):
            return None

    def _require_claim(self) -> None:
        """Stop a training if another one has claimed its folder, and remove its files.

        Raises:
            NfbenchError: another training has claimed the folder.
        """
        holder: str | None
        try:
            holder = self._claim.read_text()
        except FileNotFoundError:  # only copies of this training run; one may have ended
            holder = self._published()
        if holder not in (None, self.fingerprint):
            shutil.rmtree(self.folder, ignore_errors=True)
            raise NfbenchError(
                f"{self.run}: a training with other settings, images or code was started in this folder later; this "
                "one ends without a result; if you still want it, run it again"
            )

    def remove(self) -> None:
        """Remove the side folders of all fingerprints, because the run is done."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


class CheckpointPace:
    """Decides when the next checkpoint is due, so that writing takes at most 5 % of the training time.

    Args:
        seconds: minimum time between two checkpoints; 0 writes one after each epoch, even if writing is slow.
        size: bytes of the first checkpoint; its writing time is estimated at 200 MB/s.
    """

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._expected = size / _ASSUMED_SPEED
        self._spent = 0.0
        self._started = self._last = time.monotonic()

    def is_due(self) -> bool:
        """Return whether a checkpoint written now respects both limits."""
        now = time.monotonic()
        affordable = self._spent + self._expected <= _LARGEST_SHARE * (now - self._started)
        return now - self._last >= self._seconds and (affordable or not self._seconds)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure the time of writing a checkpoint."""
        started = time.monotonic()
        yield
        self._last = time.monotonic()
        self._expected = self._last - started
        self._spent += self._expected


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write the state of one model as safetensors, atomically.

    Raises:
        NfbenchError: the disk is full.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # it hides the operating system's error number
            raise NfbenchError(f"{path} cannot be written: {error}; is the disk full?") from error


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the state of one model.

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
    """Write the models of several epochs to one file."""
    save_state(path, {f"{epoch}{_SEPARATOR}{name}": v for epoch, state in kept.items() for name, v in state.items()})


def load_kept(path: Path) -> dict[int, dict[str, Tensor]]:
    """Read the models of several epochs, by epoch."""
    kept: dict[int, dict[str, Tensor]] = {}
    for key, value in load_state(path).items():
        epoch, _, name = key.partition(_SEPARATOR)
        kept.setdefault(int(epoch), {})[name] = value
    return dict(sorted(kept.items()))


def _load_torch(path: Path, fingerprint: str) -> dict[str, Any]:
    """Read the state of a training and verify the checksums of its parts, which ``torch.load`` ignores.

    Raises:
        FileNotFoundError: the file does not exist.
        NfbenchError: the file is damaged or belongs to another training.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # zipfile, zlib, pickle and torch raise many types for damaged files
            raise NfbenchError(f"{path} is damaged ({str(error).splitlines()[0] if str(error) else 'cut'})") from error
    if damaged is not None:
        raise NfbenchError(f"{path} is damaged (its part {damaged} has another checksum)")
    if not isinstance(state, dict) or state.pop("fingerprint", None) != fingerprint:
        raise NfbenchError(f"{path} is the checkpoint of another training")
    return state


def _save_torch(state: dict[str, Any], temporary: Path, path: Path) -> None:
    try:
        torch.save(state, temporary)
    except RuntimeError as error:  # torch's zip writer hides the operating system's error number
        if not temporary.exists():
            raise FileNotFoundError(f"{temporary} was removed") from error
        raise NfbenchError(f"{path} cannot be written: {error}; is the disk full?") from error
