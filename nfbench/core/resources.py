"""Resources that jobs ask for, decided without importing torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nfbench.core.slots import device_files, visible_gpus

__all__ = ["gpus_per_job", "memory", "time_limit"]

_DAY = 24 * 60


def gpus_per_job(device: str, devices: Path = Path("/dev")) -> int:
    """GPUs that a job asks for: 1 with ``cuda``, or with ``auto`` if an NVIDIA GPU is visible; otherwise 0.

    Without a visible GPU, jobs share the cores instead of waiting for a GPU.
    """
    return int(device == "cuda" or (device == "auto" and bool(device_files(devices) and visible_gpus(devices))))


def memory(megabytes: int) -> Callable[[Any, int], int]:
    """Memory of a job in MB for Snakemake, doubled with each attempt.

    >>> [memory(500)(None, attempt) for attempt in (1, 2, 3)]
    [500, 1000, 2000]
    """

    def of_attempt(wildcards: Any, attempt: int) -> int:
        return megabytes * 2 ** (attempt - 1)

    return of_attempt


def time_limit(minutes: int) -> Callable[[Any, int], int]:
    """Time limit of a job in minutes for Snakemake, doubled with each attempt up to one day.

    Many clusters allow no more and let a longer job wait forever. A training does not need more: each attempt continues
    where the last one stopped.

    >>> [time_limit(480)(None, attempt) for attempt in (1, 2, 3)]
    [480, 960, 1440]
    """

    def of_attempt(wildcards: Any, attempt: int) -> int:
        return max(minutes, min(_DAY, minutes * 2 ** (attempt - 1)))

    return of_attempt
