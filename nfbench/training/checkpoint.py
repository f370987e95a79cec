"""Checkpoints, from which a killed training resumes, and the models kept for the selections.

The first lie in a side folder of the run that the workflow does not know, so that a failed or killed job does not lose
them. They are keyed by the run's fingerprint: other settings, data or code start afresh.

A cluster that loses sight of a machine starts its jobs a second time while the first copies go on. Both copies of a
training may read and write the checkpoints, each of which is a whole one. The results come from the copy that ends
first, all of them. This needs no lock, only that a file or a folder is renamed in one step, as POSIX and NFS have it.

Of trainings with other fingerprints, a run's folder belongs to the one that began last: a job that lost its Snakemake
may still train with settings that were edited since. The others end with an error, at their next checkpoint.
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
"""For what is written as another copy of the training, which has ended, removes the folder; it may also be gone when
``mkdir`` looks at what it found there, which is then a ``FileExistsError``."""


class SideFolder:
    """Checkpoints and results of an unfinished training, ``<run>/.resume/<fingerprint>/``.

    Args:
        run_folder: folder of the run, which has a ``training.json`` when the training is done.
        fingerprint: hash of all that determines the training; ``training.json`` has it too.
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
        """Claims the run's folder; the run is not done, even if it was, or was killed as it published."""
        write_text(self._claim, self.fingerprint)
        (self.run / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(self._finished, ignore_errors=True)

    @_UNDER_REMOVAL
    def save(self, state: dict[str, Any]) -> None:
        """Write the state of a training after an epoch, and the models in ``state["kept"]`` that are new.

        The checkpoint before it stays until the next one is written.

        Raises:
            NfbenchError: the disk is full, or another training has claimed the folder.
        """
        self._require_claim()
        remove_stale(self.folder)
        for epoch, model in state["kept"].items():
            if not self._kept(epoch).exists():
                self._write({"model": model}, self._kept(epoch))
        with suppress(FileNotFoundError):  # it is the first, or another copy has moved it
            self.path.replace(self._before)
        self._write({**state, "kept": list(state["kept"])}, self.path)

    def load(self) -> dict[str, Any] | None:
        """The last state that is whole, on the CPU, None where there is none; damaged files are set aside."""
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
            with suppress(FileNotFoundError):  # another copy has set it aside
                path.replace(aside)
            _log.warning(
                "%s; it is now %s, and the training continues from the checkpoint before it, or from the start",
                error,
                aside.name,
            )
            return None

    @contextmanager
    def publish(self) -> Iterator[Path]:
        """A folder for the results; when the block ends well, they move to the run's folder, ``training.json`` last.

        Of several copies of a training, it is the results of the first that ends, and nothing of the others'.

        Raises:
            NfbenchError: another training of the run has begun meanwhile.
        """
        self._require_claim()
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
        self._require_claim()
        with suppress(OSError):  # a folder that is there, of the copy that was first, cannot be replaced
            staged.rename(self._finished)
        if self._is_done():
            _log.warning("%s: another process has ended this training before; its results stay", self.run)
            return
        for path in sorted(self._finished.iterdir(), key=lambda path: path.name == _MARKER):
            with suppress(FileNotFoundError):  # the other copy has moved it
                os.replace(path, self.run / path.name)
        if not self._is_done():
            raise NfbenchError(f"{self.run}: another process has restarted this training, and will end it")

    def _is_done(self) -> bool:
        return self._published() == self.fingerprint

    def _published(self) -> str | None:
        """Fingerprint of the training whose results are in the run's folder, None without."""
        try:
            return read_json(self.run / _MARKER)["fingerprint"]
        except (NfbenchError, TypeError, KeyError):
            return None

    def _require_claim(self) -> None:
        """Stop a training if another one has claimed its folder, and remove its files.

        Raises:
            NfbenchError: it has.
        """
        holder: str | None
        try:
            holder = self._claim.read_text()
        except FileNotFoundError:  # no training is under way but this one's copies; one may have ended
            holder = self._published()
        if holder not in (None, self.fingerprint):
            shutil.rmtree(self.folder, ignore_errors=True)
            raise NfbenchError(
                f"{self.run}: a training with other settings, images or code was started in this folder after this "
                "one, which ends here without a result; if it is still the one you want, run it again"
            )

    def remove(self) -> None:
        """Removes the side folder, and those of other fingerprints: the run is done."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


class CheckpointPace:
    """When the next checkpoint is due: writing takes at most 5 % of the time of a training.

    Args:
        seconds: shortest time between two checkpoints; with 0 each epoch has one, however long writing takes.
        size: bytes of the first checkpoint, whose time is not known yet: 200 MB/s are assumed.
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
        """Measures how long a checkpoint takes."""
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
        except SafetensorError as error:  # it does not pass the operating system's error number on
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
    """Reads the state of a training, with the checksums of its parts, which ``torch.load`` passes over.

    Raises:
        FileNotFoundError: there is none.
        NfbenchError: it is damaged, or is that of another training.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # zipfile, zlib, pickle and torch raise a dozen kinds for damaged files
            raise NfbenchError(f"{path} is damaged ({str(error).splitlines()[0] if str(error) else 'cut'})") from error
    if damaged is not None:
        raise NfbenchError(f"{path} is damaged (its part {damaged} has another checksum)")
    if not isinstance(state, dict) or state.pop("fingerprint", None) != fingerprint:
        raise NfbenchError(f"{path} is the checkpoint of another training")
    return state


def _save_torch(state: dict[str, Any], temporary: Path, path: Path) -> None:
    try:
        torch.save(state, temporary)
    except RuntimeError as error:  # torch's zip writer does not pass the operating system's error number on
        if not temporary.exists():
            raise FileNotFoundError(f"{temporary} was removed") from error
        raise NfbenchError(f"{path} cannot be written: {error}; is the disk full?") from error
