"""Optional dependencies: which extra of nfbench installs a package, and the error where it is missing."""

from importlib.util import find_spec
from typing import NamedTuple

from nfbench.core.errors import NfbenchError

__all__ = ["EXTRAS", "Extra", "require"]


class Extra(NamedTuple):
    """An extra whose packages nfbench imports.

    Attributes:
        needed_by: Start of the error message.
        modules: Top-level modules of its packages.
    """

    needed_by: str
    modules: tuple[str, ...]


EXTRAS = {
    "search": Extra("searches need Optuna", ("optuna",)),
    "tracking": Extra("tracking needs MLflow", ("mlflow",)),
    "export": Extra("ONNX files need onnx, onnxruntime and onnxscript", ("onnx", "onnxruntime", "onnxscript")),
    "peers": Extra("method 'anomalib' needs anomalib 2.7 or later", ("anomalib",)),
    "demo": Extra("'nfbench demo' needs Starlette and uvicorn", ("starlette", "uvicorn")),
}


def require(extra: str, *modules: str) -> None:
    """Check that the packages of an extra are installed, before they are imported.

    Args:
        extra: A key of ``EXTRAS``.
        modules: Modules to look for. Default: all modules of the extra.

    Raises:
        NfbenchError: A package is missing; the message names the extra to install.
    """
    needed_by, all_modules = EXTRAS[extra]
    missing = [name for name in modules or all_modules if find_spec(name) is None]
    if missing:
        raise NfbenchError(f"{needed_by} (missing: {', '.join(missing)}): pip install 'nfbench[{extra}]'")
