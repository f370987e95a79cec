"""Benchmark of normalizing flows for image anomaly detection and localization."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfbench.detector import Detector

__all__ = ["Detector"]

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Imports ``Detector`` on first use, since commands and the workflow do not need torch."""
    if name == "Detector":
        return import_module("nfbench.detector").Detector
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
