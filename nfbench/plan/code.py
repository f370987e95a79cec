"""Hash of the nfbench code that a result depends on: all definitions that a stage can reach.

From a root, such as ``nfbench.training.fit:fit``, the closure follows each name, attribute of a module and import to
its top-level definition. It also follows annotations, since the type of a parameter determines which methods may run.
Classes are included as a whole. Each module imported on the way contributes its effects: top-level statements that are
not definitions. The hash is computed from the syntax tree: comments, docstrings, formatting and the order of
definitions do not change it; neither do ``__all__``, ``__version__`` and ``if TYPE_CHECKING:``.

Plug-ins and other modules that are found by name in a string are not followed; they are roots of their own. A
definition depends on its decorators and base classes, but not the other way round: a definition that only registers
itself is not found.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.plan.syntax import EFFECTS, WHOLE, Import, Module, Part

__all__ = ["Code", "code_hash", "reachable"]


class _Node(NamedTuple):
    """A top-level definition, the effects of a module, a whole module, or a data file next to it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@cache
def code_hash(*roots: str) -> str:
    """Returns the hash of the nfbench code that ``roots`` reach, 12 hex digits.

    Args:
        roots: definitions, such as ``nfbench.training.fit:fit``, or modules, such as ``nfbench.methods.fastflow``.

    Raises:
        NfbenchError: a root is unknown.
    """
    return _nfbench().hash(*roots)


def reachable(*roots: str) -> list[str]:
    """Lists definitions, effects and data files that ``roots`` reach, as ``module:name``, sorted."""
    return _nfbench().reachable(*roots)


@cache
def _nfbench() -> "Code":
    return Code(Path(__file__).parent.parent, "nfbench")


class Code:
    """Definitions of a package. Each file is read at most once, when it is first needed.

    Args:
        folder: folder of the package.
        package: name of the package.
    """

    def __init__(self, folder: Path, package: str) -> None:
        self.folder, self.package = folder, package
        self._modules: dict[str, Module | None] = {}
        self._edges: dict[_Node, frozenset[_Node]] = {}
        self._digests: dict[_Node, str] = {}

    def hash(self, *roots: str) -> str:
        """Returns the hash of everything that ``roots`` reach; see ``code_hash``."""
        digests = (self._digest(node) for node in self._closure(roots))
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]

    def reachable(self, *roots: str) -> list[str]:
        """Lists everything that ``roots`` reach, as ``module:name``."""
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
            raise NfbenchError(f"'{root}': package '{self.package}' has no module '{name}'")
        if not definition:
            return [_Node(name, WHOLE)]
        known = [*module.definitions, *module.imports]
        if definition not in known:
            raise NfbenchError(f"'{root}': module '{name}' has no '{definition}'{nearest(definition, known)}")
        return self._resolve(name, (definition,))

    def _is_empty(self, node: _Node) -> bool:
        return node.name == WHOLE or (node.name == EFFECTS and not self._loaded(node.module).effects)

    def _module(self, name: str) -> Module | None:
        """Returns a module of the package; None if there is none of this name."""
        if name not in self._modules:
            first, *rest = name.removeprefix(self.package).split(".")
            path = self.folder.joinpath(*rest)
            files = [path / "__init__.py", *([path.with_name(f"{path.name}.py")] if rest else [])]
            file = None if first or not self._is_ours(name) else next((f for f in files if f.is_file()), None)
            self._modules[name] = Module(name, file) if file else None
        return self._modules[name]

    def _loaded(self, name: str) -> Module:
        module = self._module(name)
        if module is None:
            raise NfbenchError(f"package '{self.package}' imports '{name}', which does not exist")
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
        yield _Node(node.module, EFFECTS)
        if node.name == WHOLE:
            yield from (_Node(node.module, name) for name in module.definitions)
            imports = (found for bound in module.imports.values() for found in bound)
            passed_on = (found for found in imports if module.is_package or found.attribute)
            yield from (node for found in passed_on for node in self._target(found))
            return
        part = module.part(node.name)
        if node.name == EFFECTS:
            yield from (_Node(parent, EFFECTS) for parent in _parents(node.module))
            for bound in module.imports.values():
                yield from self._executed(bound)
        for chain in part.chains:
            yield from self._of_chain(module, part, chain)
        yield from self._executed(part.imports)
        yield from (_Node(found.module, WHOLE) for found in part.imports if found.local == WHOLE)
        yield from (_Node(node.module, file) for file in module.data_files if part.names_file(file))

    def _executed(self, imports: Iterable[Import]) -> Iterator[_Node]:
        """Yields the effects of the modules that imports execute."""
        for found in imports:
            if self._is_ours(found.executed):
                yield _Node(self._loaded(found.executed).name, EFFECTS)
                if self._module(inner := f"{found.module}.{found.attribute}"):
                    yield _Node(inner, EFFECTS)

    def _of_chain(self, module: Module, part: Part, chain: tuple[str, ...]) -> Iterator[_Node]:
        """Resolves a name with its attributes, such as ``a.b.c``, in a module."""
        if chain[0] in module.definitions:
            yield _Node(module.name, module.definitions[chain[0]])
        for found in module.bound(part, chain[0]):
            yield from self._target(found, chain[1:])

    def _target(self, found: Import, attributes: Sequence[str] = ()) -> Iterable[_Node]:
        if not self._is_ours(found.module):
            return []
        return self._resolve(found.module, [*([found.attribute] if found.attribute else []), *attributes])

    def _resolve(self, name: str, attributes: Sequence[str]) -> Iterator[_Node]:
        """Resolves ``name.attribute.attribute``, through modules that re-export it."""
        module = self._loaded(name)
        yield _Node(name, EFFECTS)
        if not attributes:
            yield _Node(name, WHOLE)
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
        else:  # a name that is created at run time
            yield _Node(name, WHOLE)

    def _digest(self, node: _Node) -> str:
        if node not in self._digests:
            module = self._loaded(node.module)
            if node.name in module.data_files:
                content = (module.path.parent / node.name).read_bytes()
            else:
                content = "\n".join(self._described(module, module.part(node.name))).encode()
            self._digests[node] = f"{node} {hashlib.sha256(content).hexdigest()}"
        return self._digests[node]

    def _described(self, module: Module, part: Part) -> Iterator[str]:
        """Yields the text of a part, and the imports elsewhere in its module that bind its names."""
        yield part.text
        for chain in sorted(part.chains):
            for found in module.bound(part, chain[0]):
                ours = sorted(str(node) for node in self._target(found, chain[1:]) if node.name != EFFECTS)
                yield f"{'.'.join(chain)} = {ours or [found.module, found.attribute]}"


def _parents(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module
