"""What a job may ask the machine for, decided without importing torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfbench.core.slots import device_files, visible_gpus

__all__ = ["gpus_per_job", "memory", "time_limit"]

_DAY = 24 * 60


def gpus_per_job(device: str, devices: Path = Path("/dev")) -> int:
    """GPUs that a job asks for: 1 with ``cuda``, with ``auto`` where this machine has an NVIDIA device, else 0.

    Where there is none, or ``CUDA_VISIBLE_DEVICES`` hides all, jobs share the cores instead of queueing for a GPU that
    is not there.
    """
    return int(device == "cuda" or (device == "auto" and bool(device_files(devices) and visible_gpus(devices))))


def memory(megabytes: int) -> Callable[[Any, int], int]:
    """Memory of a job in MB as Snakemake asks for it, twice as much with each attempt.

    >>> [memory(500)(None, attempt) for attempt in (1, 2, 3)]
    [500, 1000, 2000]
    """

    def of_attempt(wildcards: Any, attempt: int) -> int:
        return megabytes * 2 ** (attempt - 1)

    return of_attempt


def time_limit(minutes: int) -> Callable[[Any, int], int]:
    """Time limit of a job in minutes as Snakemake asks for it, twice as much with each attempt but no more than a day.

    Many clusters allow no more, and let a job that asks for it wait for ever. A training needs no more either: each
    attempt goes on where the last one stopped.

    >>> [time_limit(480)(None, attempt) for attempt in (1, 2, 3)]
    [480, 960, 1440]
    """

    def of_attempt(wildcards: Any, attempt: int) -> int:
        return max(minutes, min(_DAY, minutes * 2 ** (attempt - 1)))

    return of_attempt
