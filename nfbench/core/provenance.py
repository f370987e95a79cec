"""Provenance of a result: code, packages, hardware, and hashes of its inputs."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nfbench

if TYPE_CHECKING:
    import torch

__all__ = ["derive_seed", "describe_machine", "file_sha256", "provenance"]

_PACKAGES = (
    "torch",
    "timm",
    "FrEIA",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "albumentations",
    "opencv-python-headless",
    "snakemake",
    "anomalib",
    "lightning",
)
_SOURCE = Path(nfbench.__file__).parent


def provenance(device: "torch.device | None" = None) -> dict[str, Any]:
    """Commit, versions, hardware and command of this process.

    Args:
        device: device of the computation, None without torch.
    """
    torch: Any = sys.modules.get("torch")
    on_gpu = device is not None and device.type == "cuda"
    return {
        "nfbench": nfbench.__version__,
        **_git(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_threads": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "arithmetic": _arithmetic(torch) if on_gpu else None,
        "device": None if device is None else device.type,
        "threads": None if torch is None else torch.get_num_threads(),
        "command": shlex.join(["nfbench", *sys.argv[1:]]),
    }


def describe_machine(record: Mapping[str, Any]) -> str:
    """The machine of a stage, from its ``provenance``: the GPU, or the CPU and the number of threads."""
    if record["device"] == "cuda":
        return f"GPU {record['gpu']}"
    threads = record["threads"] or record["cpu_threads"]
    return f"CPU {record['cpu']}, {threads} thread{'s' if threads > 1 else ''}"


def _arithmetic(torch: Any) -> dict[str, Any]:
    """Arithmetic of this process on a GPU: float32 as ``ieee`` or ``tf32``, and whether kernels are deterministic."""
    names = {False: "ieee", True: "tf32"}
    return {
        "fp32_products": names[torch.backends.cuda.matmul.allow_tf32],
        "fp32_convolutions": names[torch.backends.cudnn.allow_tf32],
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def file_hash(path: str | Path, algorithm: str) -> str:
    """Checksum of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    return file_hash(path, "sha256")


def derive_seed(*names: object) -> int:
    """A seed in [0, 2^63) that depends on all names: equal names give equal seeds, on every machine."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8], "big") >> 1


@cache
def _git() -> dict[str, Any]:
    """Commit and dirty flag of the checkout that nfbench runs from, both None outside of one."""

    def run(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", "-C", str(_SOURCE.parent), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = run("rev-parse", "HEAD")
        changes = run("status", "--porcelain", "--", "nfbench", "workflow", "config.yaml", "Snakefile")
    except OSError:  # there is no git, or it may not be run
        commit = changes = None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
