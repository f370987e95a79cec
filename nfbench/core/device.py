"""Where computations run, how reproducibly, and with which arithmetic.

On a GPU, float32 is IEEE's in matrix products and convolutions alike, in every stage. torch's own default is that for
matrix products, but TF32, with 10 bits of mantissa instead of 23, for convolutions.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nfbench.core.errors import NfbenchError
from nfbench.core.slots import take_slot, visible_gpus

__all__ = ["free_memory", "peak_memory_mb", "peak_of", "pick_device", "require_gpu", "tf32"]

_DEVICES = ("auto", "cpu", "cuda")
_earlier_peaks: dict[torch.device, int] = {}


def pick_device(name: str, threads: int | None = None) -> torch.device:
    """The device to compute on, with deterministic kernels and IEEE's float32.

    Of several GPUs it is one that is free, once there is one.

    Args:
        name: ``cpu``, ``cuda``, or ``auto``: a GPU if torch sees one.
        threads: CPU threads of torch, by default all.

    Raises:
        NfbenchError: another word, or ``cuda`` is asked for and torch sees no GPU.
    """
    if name not in _DEVICES:
        raise NfbenchError(f"unknown device '{name}'; known: {', '.join(_DEVICES)}")
    if threads:
        torch.set_num_threads(threads)
    if name != "cpu" and torch.version.cuda:
        take_slot(visible_gpus())  # before torch looks for GPUs, which settles for good what it sees
    if name == "cuda":
        require_gpu()
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this only
    torch.set_deterministic_debug_mode("warn")  # 'use_deterministic_algorithms' would import torch's compiler too
    # by default, each new tensor would be filled once more; none is read before it is written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _allow_tf32(products=False, convolutions=False)
    return torch.device("cuda")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Sets for a while whether a GPU may round factors of products and convolutions of float32 to 10 bits."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(allowed, allowed)
    try:
        yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def require_gpu() -> None:
    """Makes sure that torch can compute on a GPU here.

    Raises:
        NfbenchError: it cannot; says whether the build of torch, the driver or the environment is the reason.
    """
    if torch.cuda.is_available():
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.backends.cuda.is_built():
        reason = f"torch {torch.__version__} is a build for CPUs alone; install one with CUDA (pytorch.org)"
    elif hidden is not None and not visible_gpus():
        reason = f"CUDA_VISIBLE_DEVICES is '{hidden}', which hides all GPUs; unset it, or name those to use"
    else:
        reason = f"torch {torch.__version__} is built with CUDA, but cannot start it: {_why_cuda_fails()}"
    raise NfbenchError(
        f"'device' is cuda, but torch sees no GPU on {socket.gethostname()}: {reason}; or set 'device' to auto or cpu"
    )


def _why_cuda_fails() -> str:
    """What torch says of it, in one line: there is no driver, it is too old, or there is no GPU."""
    try:
        torch.cuda.init()
    except Exception as error:  # any error is the reason
        return " ".join(str(error).split()).rstrip(".")
    return "no GPU is found"


def peak_memory_mb(device: torch.device) -> dict[str, float]:
    """Largest memory of this process so far in MiB: ``host`` (resident) and, on a GPU, ``gpu``."""
    import resource  # not on Windows, where the command line says so

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    memory = {"host": round(kilobytes / 1024, 1)}
    if device.type == "cuda":
        peak = max(torch.cuda.max_memory_allocated(device), _earlier_peaks.get(device, 0))
        memory["gpu"] = round(peak / 2**20, 1)
    return memory


def free_memory(device: torch.device) -> int:
    """Bytes of memory that this process can still take, of a GPU those included that torch holds for later."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
    import psutil

    return psutil.virtual_memory().available


def peak_of(device: torch.device, work: Callable[[], object]) -> int:
    """Bytes of a GPU's memory that some work takes at its peak, beyond what is taken before it."""
    before = torch.cuda.memory_allocated(device)
    _earlier_peaks[device] = max(torch.cuda.max_memory_allocated(device), _earlier_peaks.get(device, 0))
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before
