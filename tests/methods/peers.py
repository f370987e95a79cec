"""Modules of anomalib, which methods are compared with."""

from types import ModuleType
from typing import Any

import pytest

__all__ = ["Peer"]


class Peer:
    """A module of anomalib that is imported when a test first uses it; without anomalib the test is skipped.

    The import takes several seconds, which each process of the tests would spend on collecting them.
    """

    def __init__(self, name: str) -> None:
        self._name = f"anomalib.models.{name}"

    @property
    def module(self) -> ModuleType:
        return pytest.importorskip(self._name, reason="anomalib is not installed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)
