"""Find plug-ins by file name: one module in a package is one method, dataset or family of backbones.

Listing names imports only the package itself, so that ``--help`` and the workflow do not import torch.
"""

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from nfbench.core.errors import NfbenchError, faults_of

__all__ = ["exported", "nearest", "package_folder", "plugin", "plugin_defines", "plugin_literal", "plugin_names"]


def plugin_names(package: str) -> list[str]:
    """Names of the plug-in modules of a package: all but those with a leading underscore."""
    files = [file for folder in importlib.import_module(package).__path__ for file in os.listdir(folder)]
    return sorted(file.removesuffix(".py") for file in files if file.endswith(".py") and not file.startswith("_"))


def plugin(package: str, name: str) -> ModuleType:
    """Imports the plug-in ``name`` of ``package``.

    Raises:
        NfbenchError: the plug-in does not exist (the message names the closest one) or cannot be imported.
    """
    names = plugin_names(package)
    if name not in names:
        plural = package.rpartition(".")[2]
        kind = f"{plural[:-3]}y" if plural.endswith("ies") else plural.removesuffix("s")
        raise NfbenchError(f"unknown {kind} '{name}'{nearest(name, names)}")
    with faults_of(f"{_file(package, name)} cannot be imported"):
        return importlib.import_module(f"{package}.{name}")


def exported(package: str, name: str, attribute: str, *, instance_of: type = object, subclass_of: type = object) -> Any:
    """The object that a plug-in's module defines under the name its package requires.

    Args:
        package: of the plug-ins.
        name: of the plug-in.
        attribute: such as ``METHOD``.
        instance_of: required type, for packages whose plug-ins are objects.
        subclass_of: required base class, for packages whose plug-ins are classes.

    Raises:
        NfbenchError: the plug-in does not exist or does not define it; names the file.
    """
    value = getattr(plugin(package, name), attribute, None)
    is_class, file = subclass_of is not object, _file(package, name)
    fits = isinstance(value, type) and issubclass(value, subclass_of) if is_class else isinstance(value, instance_of)
    if value is None or not fits:
        wanted = f"a class derived from {subclass_of.__name__}" if is_class else f"of type {instance_of.__name__}"
        raise NfbenchError(f"{file}: '{attribute}' must be {wanted}, got {value!r}")
    declared = inspect.get_annotations(subclass_of if is_class else instance_of)
    missing = [key for key, kind in declared.items() if "ClassVar" in str(kind) and not hasattr(value, key)]
    if missing := [*missing, *sorted(getattr(value, "__abstractmethods__", ()))]:
        raise NfbenchError(f"{file}: '{attribute}' does not define {', '.join(missing)}")
    return value


def _file(package: str, name: str) -> str:
    return f"{package.replace('.', '/')}/{name}.py"


def package_folder(package: str) -> Path | None:
    """Folder of a package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def plugin_literal(package: str, name: str, variable: str) -> Any:
    """A top-level literal of a plug-in's file, read without importing it; None if it is missing."""
    (folder,) = importlib.import_module(package).__path__
    for node in _statements(Path(folder, f"{name}.py")):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == variable:
            return ast.literal_eval(node.value)
    return None


def plugin_defines(package: str, name: str, attribute: str, members: Iterable[str], root: str) -> bool:
    """Whether a plug-in's class or one of its bases defines one of ``members``; read without importing it.

    Args:
        package: of the plug-ins.
        name: of the plug-in.
        attribute: name of the class in its module, such as ``METHOD``.
        members: names of methods.
        root: common base class of the package, which is ignored.
    """

    def defined(module: str, sought: str) -> bool:
        ours = sought != root and module.partition(".")[0] == package.partition(".")[0]
        spec = importlib.util.find_spec(module) if ours else None
        for node in _statements(Path(spec.origin)) if spec and spec.origin else ():
            if isinstance(node, ast.ClassDef) and node.name == sought:
                own = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                return not own.isdisjoint(members) or any(defined(module, base) for base in bases)
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == sought:
                return isinstance(node.value, ast.Name) and defined(module, node.value.id)
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [found.name for found in node.names if sought == (found.asname or found.name)]
                if names:
                    return defined(node.module, names[0])
        return False

    return defined(f"{package}.{name}", attribute)


def _statements(path: Path) -> Sequence[ast.stmt]:
    """Statements at the top of a file."""
    return _parsed(path.read_text())


@cache
def _parsed(code: str) -> Sequence[ast.stmt]:
    return ast.parse(code).body


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of an error message: the known name closest to ``name``, or all known names."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known) or 'none'}"
