"""Syntax of modules for ``code``: top-level definitions, the names in them, and the imports behind names."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import resolve_name
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["EFFECTS", "WHOLE", "Import", "Module", "Part"]

EFFECTS = "<module>"
"""Name for the effects of a module, as Python names its code."""

WHOLE = "*"
"""Name for a whole module."""

_NO_PART = {"__all__", "__version__"}
_NOT_IN_TEXT = {"ctx", "kind", "type_comment"}
_BODIES = {"body", "orelse", "finalbody"}
_ANNOTATIONS = {"annotation", "returns"}


class Import(NamedTuple):
    """Target of an imported name: a module or its attribute. ``executed`` is the module that the import runs."""

    local: str
    module: str
    attribute: str | None
    executed: str


class Module:
    """Top-level statements of a module.

    Attributes:
        definitions: maps a defined name to the key of its statements: the name itself, or that of the effects.
        effects: statements that are not definitions.
        imports: imports by local name.
        data_files: paths of files that are not Python code, relative to the folder of the module.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.is_package = path.name == "__init__.py"
        self.definitions: dict[str, str] = {}
        self.effects: list[ast.stmt] = []
        self.imports: dict[str, list[Import]] = {}
        self.data_files = _data_files(path.parent)
        self._statements: dict[str, list[ast.stmt]] = {}
        self._parts: dict[str, Part] = {}
        for statement in _effective(ast.parse(path.read_bytes(), filename=str(path)).body):
            self._add(statement)

    def _add(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._bind(statement)
            return
        names = _defined(statement)
        if names is None:
            self.effects.append(statement)
            for inner in ast.walk(statement):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    self._bind(inner)
                for name in _defined(inner) or ():
                    self.definitions.setdefault(name, EFFECTS)
            return
        for name in set(names) - _NO_PART:
            self.definitions[name] = name
            self._statements.setdefault(name, []).append(statement)

    def _bind(self, statement: ast.Import | ast.ImportFrom) -> None:
        for found in self.read_import(statement):
            if found.local == WHOLE:
                self.effects.append(statement)
            else:
                self.imports.setdefault(found.local, []).append(found)

    def read_import(self, statement: ast.Import | ast.ImportFrom) -> Iterator[Import]:
        """Yields the targets of the names that an import binds."""
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                first = alias.name.partition(".")[0]
                bound = alias.name if alias.asname else first
                yield Import(alias.asname or first, bound, None, alias.name)
            return
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        source = resolve_name("." * statement.level + (statement.module or ""), package)
        for alias in statement.names:
            own = source == self.name  # a package that imports one of its own modules
            module, attribute = (f"{source}.{alias.name}", None) if own else (source, alias.name)
            yield Import(alias.asname or alias.name, module, attribute, executed=source)

    def bound(self, part: "Part", name: str) -> list[Import]:
        """Returns the import targets of a name, within a part and at the top level."""
        return [*self.imports.get(name, ()), *(found for found in part.imports if found.local == name)]

    def part(self, name: str) -> "Part":
        """Returns the part for a definition or for the effects."""
        if name not in self._parts:
            self._parts[name] = Part(self, self.effects if name == EFFECTS else self._statements.pop(name))
        return self._parts[name]


class Part:
    """Statements as text, with the names in them.

    Attributes:
        text: the syntax tree as text, equal in all versions of Python.
        chains: names with their attributes: ``a.b.c`` is ``("a", "b", "c")``.
        imports: imports among the statements.
    """

    def __init__(self, module: Module, statements: Sequence[ast.stmt]) -> None:
        self._module = module
        self._tokens: list[str] = []
        self._strings: set[str] = set()
        self.chains: set[tuple[str, ...]] = set()
        self.imports: list[Import] = []
        self._read_all(_effective(statements))
        self.text = " ".join(self._tokens)

    def names_file(self, file: str) -> bool:
        """Whether a string equals this relative path, or its file ending, as in ``f"{name}.csv"``."""
        return file in self._strings or (Path(file).suffix or file) in self._strings

    def _read_all(self, items: Iterable[object]) -> None:
        for item in items:
            if isinstance(item, ast.AST):
                self._read(item)
            else:
                self._tokens.append(repr(item))

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            self._tokens.append(f":{node.value!r}")  # a bare None marks an absent part, such as a default
            if isinstance(node.value, str):
                self._strings.add(node.value)
            return
        if isinstance(node, ast.Name | ast.Attribute) and (chain := _chain(node)):
            self._tokens.append(".".join(chain))
            self.chains.add(chain)
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.extend(self._module.read_import(node))
        self._tokens.append(f"{type(node).__name__}(")
        for field in node._fields:
            value: Any = getattr(node, field, None)
            if field == "keywords":
                value = [keyword for keyword in value if not _is_description(node, keyword)]
            if value is None or value == [] or field in _NOT_IN_TEXT:
                continue
            self._tokens.append(f"{field}=")
            if isinstance(value, list):
                self._read_all(_effective(value) if field in _BODIES else value)
            else:
                self._read_all([value])
            if field in _ANNOTATIONS:
                self.chains.update(_quoted(value))
        self._tokens.append(")")


def _effective(items: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Drops statements without effect: docstrings, other constants, ``pass``, and ``if TYPE_CHECKING:``."""
    for item in items:
        if isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
            continue
        if isinstance(item, ast.If) and (_chain(item.test) or ("",))[-1] == "TYPE_CHECKING":
            yield from _effective(item.orelse)
        else:
            yield item


def _is_description(node: ast.AST, keyword: ast.keyword) -> bool:
    """Whether an argument is the description of a model's field."""
    is_field = isinstance(node, ast.Call) and _chain(node.func)[-1:] == ("Field",)
    return is_field and keyword.arg == "description" and isinstance(keyword.value, ast.Constant | ast.JoinedStr)


def _defined(node: ast.AST) -> list[str] | None:
    """Returns the names that a statement defines, if it does nothing else."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        alias = getattr(node, "name", None)  # of a TypeAlias, since Python 3.12
        if not isinstance(alias, ast.Name):
            return None
        targets = [alias]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return names if len(names) == len(targets) else None


def _chain(node: ast.AST) -> tuple[str, ...]:
    """Returns a name with its attributes; empty for any other expression."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def _quoted(annotation: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yields names in the quoted parts of an annotation, such as ``"Method"``."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                quoted = ast.parse(node.value, mode="eval")
            except SyntaxError:
                continue  # a value of a Literal
            yield from filter(None, map(_chain, ast.walk(quoted)))


def _data_files(folder: Path) -> list[str]:
    """Lists non-code files next to a module, also in folders that are not packages."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in {".py", ".pyc"}:
            found.append(path.name)
        elif path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            found += [f"{path.name}/{name}" for name in _data_files(path)]
    return found
