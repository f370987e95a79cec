"""Imports a library without those of its imports that nothing here uses.

FrEIA imports ``scipy.stats`` (0.7 s) for the random rotation of one block, higra imports pyplot (0.4 s) to draw graphs.
Every job would pay for both.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["deferred"]


class _Attribute:
    """Stands for an attribute of a module. The module is imported when the attribute is called or read."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return getattr(import_module(self._module), self._name)(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(import_module(self._module), self._name), name)


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by the import system
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}") or _Attribute(self.__name__, name)


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Replaces modules while the block imports a library; they are imported when the library first uses them.

    Args:
        names: full names of modules. Modules that are already imported stay as they are.
    """
    stand_ins = {name: _Module(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
