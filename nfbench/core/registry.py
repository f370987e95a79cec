"""Finds plug-ins by their file: one module in a package is one method, dataset or family of backbones.

Listing names imports nothing but the package itself, so that ``--help`` and the workflow stay free of torch.
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
        NfbenchError: there is no such plug-in, and the message names the nearest one; or it cannot be imported.
    """
    names = plugin_names(package)
    if name not in names:
        plural = package.rpartition(".")[2]
        kind = f"{plural[:-3]}y" if plural.endswith("ies") else plural.removesuffix("s")
        raise NfbenchError(f"unknown {kind} '{name}'{nearest(name, names)}")
    with faults_of(f"{_file(package, name)} cannot be imported"):
        return importlib.import_module(f"{package}.{name}")


def exported(package: str, name: str, attribute: str, *, instance_of: type = object, subclass_of: type = object) -> Any:
    """What the module of a plug-in has under the name that its package prescribes.

    Args:
        package: of the plug-ins.
        name: of the plug-in.
        attribute: such as ``METHOD``.
        instance_of: what it has to be, of packages whose plug-ins are objects.
        subclass_of: what it has to derive from, of packages whose plug-ins are classes.

    Raises:
        NfbenchError: there is no such plug-in, or its module does not have that; names the file.
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
    """Folder of a package, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def plugin_literal(package: str, name: str, variable: str) -> Any:
    """The value of a literal at the top of a plug-in's file, read without importing it; None where it has none."""
    (folder,) = importlib.import_module(package).__path__
    for node in _statements(Path(folder, f"{name}.py")):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == variable:
            return ast.literal_eval(node.value)
    return None


def plugin_defines(package: str, name: str, attribute: str, members: Iterable[str], root: str) -> bool:
    """Whether a plug-in's class, or a base of it, has one of ``members`` of its own; read without importing it.

    Args:
        package: of the plug-ins.
        name: of the plug-in.
        attribute: under which its module has the class, such as ``METHOD``.
        members: names of methods.
        root: name of the base that all classes of the package have in common, which does not count.
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
