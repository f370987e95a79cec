"""Finds plug-ins by their file: one module in a package is one method, dataset or family of backbones.

Listing names imports nothing but the package itself, so that ``--help`` and the workflow stay free of torch.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from nfbench.core.errors import NfbenchError

__all__ = ["import_plugins", "nearest", "package_folder", "plugin", "plugin_names", "plugin_text"]


def plugin_names(package: str) -> list[str]:
    """Names of the plug-in modules of a package: all but those with a leading underscore."""
    module = importlib.import_module(package)
    return sorted(found.name for found in pkgutil.iter_modules(module.__path__) if not found.name.startswith("_"))


def plugin(package: str, name: str) -> ModuleType:
    """Imports the plug-in ``name`` of ``package``.

    Raises:
        NfbenchError: there is no such plug-in; the message names the nearest one.
    """
    names = plugin_names(package)
    if name not in names:
        plural = package.rpartition(".")[2]
        kind = f"{plural[:-3]}y" if plural.endswith("ies") else plural.removesuffix("s")
        raise NfbenchError(f"unknown {kind} '{name}'{nearest(name, names)}")
    return importlib.import_module(f"{package}.{name}")


def import_plugins(package: str) -> list[ModuleType]:
    """Imports all plug-ins of a package, in the order of their names."""
    return [importlib.import_module(f"{package}.{name}") for name in plugin_names(package)]


def package_folder(package: str) -> Path | None:
    """Folder of a package, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def plugin_text(package: str, name: str) -> str:
    """Source of a plug-in, without importing it."""
    (folder,) = importlib.import_module(package).__path__
    return Path(folder, f"{name}.py").read_text()


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error message: the known name closest to ``name``, or all known names."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known) or 'none'}"
