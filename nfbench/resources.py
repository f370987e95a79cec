"""What a job may ask the machine for, decided without importing torch."""

from pathlib import Path

__all__ = ["gpus_per_job"]


def gpus_per_job(device: str) -> int:
    """GPUs that a job asks for: 1 with ``cuda``, with ``auto`` where this machine has an NVIDIA device, else 0.

    Where there is none, jobs share the cores instead of queueing for a GPU that is not there.
    """
    return int(device == "cuda" or (device == "auto" and Path("/dev/nvidia0").exists()))
