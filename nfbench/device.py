"""Where computations run, and how reproducibly."""

import os
import resource
import sys

import torch

from nfbench.errors import NfbenchError

__all__ = ["peak_memory_mb", "pick_device"]


def pick_device(name: str, threads: int | None = None) -> torch.device:
    """The device to compute on, with deterministic kernels.

    Args:
        name: ``cpu``, ``cuda``, or ``auto``: a GPU if torch sees one.
        threads: CPU threads of torch, by default all.

    Raises:
        NfbenchError: ``cuda`` is asked for and torch sees no GPU.
    """
    if threads:
        torch.set_num_threads(threads)
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise NfbenchError(
            "'device' is cuda, but torch sees no GPU (a CPU build of torch, or no driver); use auto or cpu"
        )
    if name == "cpu" or not has_gpu:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this only
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


def peak_memory_mb(device: torch.device) -> dict[str, float]:
    """Largest memory of this process so far in MiB: ``host`` (resident) and, on a GPU, ``gpu``."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    memory = {"host": round(kilobytes / 1024, 1)}
    if device.type == "cuda":
        memory["gpu"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return memory
