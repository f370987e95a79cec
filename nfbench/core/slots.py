"""Assign one GPU of a machine to each job.

Snakemake counts the GPUs that jobs ask for but does not assign them, and by default every job would use the first one.
A job therefore takes a slot before CUDA starts: a lock that the kernel releases when the process ends.
"""

import atexit
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from nfbench.core.errors import NfbenchError

__all__ = ["device_files", "take_slot", "visible_gpus"]

_log = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_JOBS_PER_GPU = "NFBENCH_JOBS_PER_GPU"


def device_files(folder: Path = Path("/dev")) -> list[Path]:
    """The files of NVIDIA's GPUs; a container with one GPU of several may have ``nvidia3`` alone, WSL 2 has ``dxg``."""
    return [path for path in folder.glob("*") if re.fullmatch(r"nvidia[0-9]+|dxg", path.name)]


def visible_gpus(devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that CUDA would see, without starting CUDA: those in ``CUDA_VISIBLE_DEVICES``, by default all.

    A GPU is a number, a UUID, or the id of a MIG device. As in CUDA, the list ends before the first name that is none
    of these (``-1``, ``NoDevFiles``, nothing), and GPUs are counted from 0, also where their files have
    other numbers.

    Args:
        devices: folder with a file for each GPU.
    """
    named = os.environ.get(_VISIBLE)
    if named is None:
        return [str(number) for number, _ in enumerate(device_files(devices))]
    names = (name.strip() for name in named.split(","))
    return list(dict.fromkeys(takewhile(re.compile(r"\d+|GPU-.+|MIG-.+").fullmatch, names)))


def take_slot(gpus: Sequence[str], poll_seconds: float = 1.0) -> None:
    """Waits for a GPU with a free slot, and makes it the only one that CUDA sees in this process.

    The slot is held until the process ends. Jobs of one user on one machine share the slots, and in Slurm those of one
    allocation. ``NFBENCH_JOBS_PER_GPU`` is the number of slots of each GPU, by default 1; empty GPUs come first. With
    one GPU or none, no slot is taken.

    Args:
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them.
        poll_seconds: seconds between two checks if all slots are taken.

    Raises:
        NfbenchError: ``NFBENCH_JOBS_PER_GPU`` is not a positive integer.
    """
    if len(gpus) < 2:
        return
    folder = _folder()
    slots = [(gpu, folder / f"{gpu.replace('/', '_')}.{n}.lock") for n in range(_jobs_per_gpu()) for gpu in gpus]
    waits = False
    while (gpu := _first_free(slots)) is None:
        if not waits:
            taken = f"all {len(slots)} slots of the GPUs {', '.join(gpus)} are taken by other jobs (locks in {folder})"
            _log.warning("%s; waiting for one of them to end", taken)
            waits = True
        time.sleep(poll_seconds)
    os.environ[_VISIBLE] = gpu
    _log.info("computes on GPU %s of %s", gpu, ", ".join(gpus))


def _first_free(slots: Sequence[tuple[str, Path]]) -> str | None:
    """Locks the first free slot and returns its GPU; None if all are taken."""
    from filelock import FileLock, Timeout

    for gpu, path in slots:
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        atexit.register(lock.release)  # keeps the lock, which ends with the last reference to it
        return gpu
    return None


def _folder() -> Path:
    """Folder of the locks, on this machine: on a shared disk, all machines would share one GPU 0.

    Slurm gives the GPUs of a machine to allocations, and may number those of each from 0.
    """
    owner = (str(os.getuid()), socket.gethostname(), os.environ.get("SLURM_JOB_ID"))
    folder = Path(tempfile.gettempdir(), "-".join(["nfbench-gpus", *filter(None, owner)]))
    folder.mkdir(exist_ok=True)
    return folder


def _jobs_per_gpu() -> int:
    value = os.environ.get(_JOBS_PER_GPU, "1")
    if not value.isdecimal() or not int(value):
        raise NfbenchError(f"{_JOBS_PER_GPU} is '{value}'; expected the number of jobs that share a GPU, such as 2")
    return int(value)
