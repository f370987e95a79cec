"""The code that a result follows from: definitions of nfbench that a stage can reach, and a hash of them.

From a root, such as ``nfbench.training.fit:fit``, the closure follows every name, attribute of a module and import to
the top-level definition behind it, in annotations too, since the type of a parameter says which methods may run.
A class is taken whole. Of each module that is imported on the way, its effects count: top-level statements that are no
definition. The hash is over the syntax tree: comments, docstrings, formatting and the order of definitions do not
change it; neither do ``__all__``, ``__version__`` and ``if TYPE_CHECKING:``.

Not followed: plug-ins and other modules that are found by a name in a string; they are roots of their own. Decorators
and base classes count for what they decorate and derive, not the other way round: a definition that only registers
itself with one is not found.
"""

<<<<<<< HEAD
import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import resolve_name
=======
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
>>>>>>> code
from pathlib import Path
from typing import NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
<<<<<<< HEAD

__all__ = ["Code", "code_hash", "reachable"]

_EFFECTS = "<module>"
"""Names the effects of a module, as Python names its code."""

_WHOLE = "*"
"""Names all of a module."""

_NO_PART = {"__all__", "__version__"}
_NOT_IN_TEXT = {"ctx", "kind", "type_comment"}
_BODIES = {"body", "orelse", "finalbody"}
_ANNOTATIONS = {"annotation", "returns"}

=======
from nfbench.plan.syntax import EFFECTS, WHOLE, Import, Module, Part

__all__ = ["Code", "code_hash", "reachable"]

>>>>>>> code

class _Node(NamedTuple):
    """A top-level definition, the effects or the whole of a module, or a data file beside it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


<<<<<<< HEAD
class _Import(NamedTuple):
    """What a name is bound to: a module, or an attribute of one. ``executed`` is the module that is imported for it."""

    local: str
    module: str
    attribute: str | None
    executed: str


=======
>>>>>>> code
@cache
def code_hash(*roots: str) -> str:
    """Hash of the code of nfbench that ``roots`` reach, 12 hex digits.

    Args:
        roots: definitions, such as ``nfbench.training.fit:fit``, or modules, such as ``nfbench.methods.fastflow``.

    Raises:
        NfbenchError: an unknown root.
    """
    return _nfbench().hash(*roots)


def reachable(*roots: str) -> list[str]:
    """Definitions, effects and data files of nfbench that ``roots`` reach, as ``module:name``, sorted."""
    return _nfbench().reachable(*roots)


@cache
def _nfbench() -> "Code":
    return Code(Path(__file__).parent.parent, "nfbench")


class Code:
    """The definitions of a package. Each file is read at most once, when it is first needed.

    Args:
        folder: folder of the package.
        package: its name.
    """

    def __init__(self, folder: Path, package: str) -> None:
        self.folder, self.package = folder, package
<<<<<<< HEAD
        self._modules: dict[str, _Module | None] = {}
=======
        self._modules: dict[str, Module | None] = {}
>>>>>>> code
        self._edges: dict[_Node, frozenset[_Node]] = {}
        self._digests: dict[_Node, str] = {}

    def hash(self, *roots: str) -> str:
        """Hash of all that ``roots`` reach; see ``code_hash``."""
        digests = (self._digest(node) for node in self._closure(roots))
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]

    def reachable(self, *roots: str) -> list[str]:
        """All that ``roots`` reach, as ``module:name``."""
        return list(map(str, self._closure(roots)))

    def _closure(self, roots: Iterable[str]) -> list[_Node]:
        waiting = [node for root in roots for node in self._root(root)]
        found: set[_Node] = set()
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(self._edges_of(node))
        return sorted(node for node in found if not self._is_empty(node))

    def _root(self, root: str) -> Iterable[_Node]:
        name, _, definition = root.partition(":")
        module = self._module(name)
        if module is None:
            raise NfbenchError(f"'{root}': there is no module '{name}' in package '{self.package}'")
        if not definition:
<<<<<<< HEAD
            return [_Node(name, _WHOLE)]
=======
            return [_Node(name, WHOLE)]
>>>>>>> code
        known = [*module.definitions, *module.imports]
        if definition not in known:
            raise NfbenchError(f"'{root}': module '{name}' has no '{definition}'{nearest(definition, known)}")
        return self._resolve(name, (definition,))

    def _is_empty(self, node: _Node) -> bool:
<<<<<<< HEAD
        return node.name == _WHOLE or (node.name == _EFFECTS and not self._loaded(node.module).effects)

    def _module(self, name: str) -> "_Module | None":
=======
        return node.name == WHOLE or (node.name == EFFECTS and not self._loaded(node.module).effects)

    def _module(self, name: str) -> Module | None:
>>>>>>> code
        """A module of the package, None where there is none of this name."""
        if name not in self._modules:
            first, *rest = name.removeprefix(self.package).split(".")
            path = self.folder.joinpath(*rest)
            files = [path / "__init__.py", *([path.with_name(f"{path.name}.py")] if rest else [])]
            file = None if first or not self._is_ours(name) else next((f for f in files if f.is_file()), None)
<<<<<<< HEAD
            self._modules[name] = file and _Module(name, file)
        return self._modules[name]

    def _loaded(self, name: str) -> "_Module":
=======
            self._modules[name] = file and Module(name, file)
        return self._modules[name]

    def _loaded(self, name: str) -> Module:
>>>>>>> code
        module = self._module(name)
        if module is None:
            raise NfbenchError(f"package '{self.package}' imports '{name}', which is not there")
        return module

    def _is_ours(self, module: str) -> bool:
        return f"{module}.".startswith(f"{self.package}.")

    def _edges_of(self, node: _Node) -> frozenset[_Node]:
        if node not in self._edges:
            self._edges[node] = frozenset(self._find_edges(node))
        return self._edges[node]

    def _find_edges(self, node: _Node) -> Iterator[_Node]:
        module = self._loaded(node.module)
        if node.name in module.data_files:
            return
<<<<<<< HEAD
        yield _Node(node.module, _EFFECTS)
        if node.name == _WHOLE:
=======
        yield _Node(node.module, EFFECTS)
        if node.name == WHOLE:
>>>>>>> code
            yield from (_Node(node.module, name) for name in module.definitions)
            if module.is_package:  # what it imports is there for others
                for bound in module.imports.values():
                    yield from (node for found in bound for node in self._target(found))
            return
        part = module.part(node.name)
<<<<<<< HEAD
        if node.name == _EFFECTS:
            yield from (_Node(parent, _EFFECTS) for parent in _parents(node.module))
=======
        if node.name == EFFECTS:
            yield from (_Node(parent, EFFECTS) for parent in _parents(node.module))
>>>>>>> code
            for bound in module.imports.values():
                yield from self._executed(bound)
        for chain in part.chains:
            yield from self._of_chain(module, part, chain)
        yield from self._executed(part.imports)
<<<<<<< HEAD
        yield from (_Node(found.module, _WHOLE) for found in part.imports if found.local == _WHOLE)
        yield from (_Node(node.module, file) for file in module.data_files if part.names_file(file))

    def _executed(self, imports: Iterable[_Import]) -> Iterator[_Node]:
        """Effects of the modules that imports execute."""
        for found in imports:
            if self._is_ours(found.executed):
                yield _Node(self._loaded(found.executed).name, _EFFECTS)
                if self._module(inner := f"{found.module}.{found.attribute}"):
                    yield _Node(inner, _EFFECTS)

    def _of_chain(self, module: "_Module", part: "_Part", chain: tuple[str, ...]) -> Iterator[_Node]:
        """What a name, with the attributes taken of it, stands for in a module."""
        if chain[0] in module.definitions:
            yield _Node(module.name, module.definitions[chain[0]])
        for found in _bound(module, part, chain[0]):
            yield from self._target(found, chain[1:])

    def _target(self, found: _Import, attributes: Sequence[str] = ()) -> Iterable[_Node]:
=======
        yield from (_Node(found.module, WHOLE) for found in part.imports if found.local == WHOLE)
        yield from (_Node(node.module, file) for file in module.data_files if part.names_file(file))

    def _executed(self, imports: Iterable[Import]) -> Iterator[_Node]:
        """Effects of the modules that imports execute."""
        for found in imports:
            if self._is_ours(found.executed):
                yield _Node(self._loaded(found.executed).name, EFFECTS)
                if self._module(inner := f"{found.module}.{found.attribute}"):
                    yield _Node(inner, EFFECTS)

    def _of_chain(self, module: Module, part: Part, chain: tuple[str, ...]) -> Iterator[_Node]:
        """What a name, with the attributes taken of it, stands for in a module."""
        if chain[0] in module.definitions:
            yield _Node(module.name, module.definitions[chain[0]])
        for found in module.bound(part, chain[0]):
            yield from self._target(found, chain[1:])

    def _target(self, found: Import, attributes: Sequence[str] = ()) -> Iterable[_Node]:
>>>>>>> code
        if not self._is_ours(found.module):
            return []
        return self._resolve(found.module, [*([found.attribute] if found.attribute else []), *attributes])

    def _resolve(self, name: str, attributes: Sequence[str]) -> Iterator[_Node]:
        """What ``name.attribute.attribute`` stands for, through modules that import it from where it is defined."""
        module = self._loaded(name)
<<<<<<< HEAD
        yield _Node(name, _EFFECTS)
        if not attributes:
            yield _Node(name, _WHOLE)
=======
        yield _Node(name, EFFECTS)
        if not attributes:
            yield _Node(name, WHOLE)
>>>>>>> code
            return
        first, *rest = attributes
        if first in module.definitions:
            yield _Node(name, module.definitions[first])
        for found in module.imports.get(first, ()):
            yield from self._target(found, rest)
        if first in module.definitions or first in module.imports or first.startswith("__"):
            return
        if self._module(f"{name}.{first}"):
            yield from self._resolve(f"{name}.{first}", rest)
        else:  # a name that is made at run time
<<<<<<< HEAD
            yield _Node(name, _WHOLE)
=======
            yield _Node(name, WHOLE)
>>>>>>> code

    def _digest(self, node: _Node) -> str:
        if node not in self._digests:
            module = self._loaded(node.module)
            if node.name in module.data_files:
                content = (module.path.parent / node.name).read_bytes()
            else:
                content = "\n".join(self._described(module, module.part(node.name))).encode()
            self._digests[node] = f"{node} {hashlib.sha256(content).hexdigest()}"
        return self._digests[node]

<<<<<<< HEAD
    def _described(self, module: "_Module", part: "_Part") -> Iterator[str]:
        """The text of a part, and what the names in it are bound to by imports elsewhere in its module."""
        yield part.text
        for chain in sorted(part.chains):
            for found in _bound(module, part, chain[0]):
                ours = sorted(str(node) for node in self._target(found, chain[1:]) if node.name != _EFFECTS)
                yield f"{'.'.join(chain)} = {ours or [found.module, found.attribute]}"


class _Module:
    """Top-level statements of a module.

    Attributes:
        definitions: by name, under which name its statements are: its own, or that of the effects.
        effects: statements that are no definition.
        imports: by local name.
        data_files: paths of files other than Python's, relative to the folder of the module.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.is_package = path.name == "__init__.py"
        self.definitions: dict[str, str] = {}
        self.effects: list[ast.stmt] = []
        self.imports: dict[str, list[_Import]] = {}
        self.data_files = _data_files(path.parent)
        self._statements: dict[str, list[ast.stmt]] = {}
        self._parts: dict[str, _Part] = {}
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
                    self.definitions.setdefault(name, _EFFECTS)
            return
        for name in set(names) - _NO_PART:
            self.definitions[name] = name
            self._statements.setdefault(name, []).append(statement)

    def _bind(self, statement: ast.Import | ast.ImportFrom) -> None:
        for found in self.read_import(statement):
            if found.local == _WHOLE:
                self.effects.append(statement)
            else:
                self.imports.setdefault(found.local, []).append(found)

    def read_import(self, statement: ast.Import | ast.ImportFrom) -> Iterator[_Import]:
        """The names that an import binds."""
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                first = alias.name.partition(".")[0]
                bound = alias.name if alias.asname else first
                yield _Import(alias.asname or first, bound, None, alias.name)
            return
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        source = resolve_name("." * statement.level + (statement.module or ""), package)
        for alias in statement.names:
            own = source == self.name  # a package that imports a module of its own
            target = (f"{source}.{alias.name}", None) if own else (source, alias.name)
            yield _Import(alias.asname or alias.name, *target, executed=source)

    def part(self, name: str) -> "_Part":
        """What is read in a definition, or in the effects."""
        if name not in self._parts:
            self._parts[name] = _Part(self, self.effects if name == _EFFECTS else self._statements.pop(name))
        return self._parts[name]


class _Part:
    """Statements as text, and what they name.

    Attributes:
        text: the syntax tree, the same in all versions of Python.
        chains: names with the attributes taken of them: ``a.b.c`` is ``("a", "b", "c")``.
        imports: imports among the statements.
    """

    def __init__(self, module: _Module, statements: Sequence[ast.stmt]) -> None:
        self._module = module
        self._tokens: list[str] = []
        self._strings: set[str] = set()
        self.chains: set[tuple[str, ...]] = set()
        self.imports: list[_Import] = []
        self._read_all(_effective(statements))
        self.text = " ".join(self._tokens)

    def names_file(self, file: str) -> bool:
        """Whether a string is this relative path, or its ending with the dot, as in ``f"{name}.csv"``."""
        return file in self._strings or (Path(file).suffix or file) in self._strings

    def _read_all(self, items: Iterable[object]) -> None:
        for item in items:
            if isinstance(item, ast.AST):
                self._read(item)
            else:
                self._tokens.append(repr(item))

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant):
            self._tokens.append(repr(node.value))
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
            value = getattr(node, field, None)
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
    """Leaves out what does nothing: docstrings and other lone constants, ``pass``, and ``if TYPE_CHECKING:``."""
    for item in items:
        if isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
            continue
        if isinstance(item, ast.If) and (_chain(item.test) or ("",))[-1] == "TYPE_CHECKING":
            yield from _effective(item.orelse)
        else:
            yield item


def _defined(node: ast.AST) -> list[str] | None:
    """Names that a statement defines, where it does nothing else."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = [part for target in node.targets for part in getattr(target, "elts", [target])]
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    elif type(node).__name__ == "TypeAlias":  # from Python 3.12 on
        targets = [node.name]
    else:
        return None
    return [target.id for target in targets] if all(isinstance(target, ast.Name) for target in targets) else None


def _chain(node: ast.AST) -> tuple[str, ...]:
    """A name with the attributes taken of it; empty for any other expression."""
    attributes = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else ()


def _quoted(annotation: ast.AST) -> Iterator[tuple[str, ...]]:
    """Names in the quoted parts of an annotation, such as ``"Method"``."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                quoted = ast.parse(node.value, mode="eval")
            except SyntaxError:
                continue  # a value of a Literal
            yield from filter(None, map(_chain, ast.walk(quoted)))


def _bound(module: _Module, part: _Part, name: str) -> list[_Import]:
    """What imports bind a name to, within a part and in its module."""
    return [*module.imports.get(name, ()), *(found for found in part.imports if found.local == name)]


=======
    def _described(self, module: Module, part: Part) -> Iterator[str]:
        """The text of a part, and what the names in it are bound to by imports elsewhere in its module."""
        yield part.text
        for chain in sorted(part.chains):
            for found in module.bound(part, chain[0]):
                ours = sorted(str(node) for node in self._target(found, chain[1:]) if node.name != EFFECTS)
                yield f"{'.'.join(chain)} = {ours or [found.module, found.attribute]}"


>>>>>>> code
def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module
<<<<<<< HEAD


def _data_files(folder: Path) -> list[str]:
    """Files beside a module that are no code, also in folders which are no packages."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in {".py", ".pyc"}:
            found.append(path.name)
        elif path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            found += [f"{path.name}/{name}" for name in _data_files(path)]
    return found
=======
>>>>>>> code
