"""Record the nfbench code that runs in a block, to compare it with the code that a job's hash covers."""

import ast
import sys
import threading
from functools import cache
from pathlib import Path

import nfbench

SOURCE = Path(nfbench.__file__).parent
OURS = f"{SOURCE}/"


class Executed:
    """Top-level definitions of nfbench that run in the block, in any thread, except code run by imports."""

    def __init__(self):
        self.names, self._codes = set(), set()

    def __enter__(self):
        for name in [name for name in sys.modules if name.startswith("nfbench.")]:
            for value in vars(sys.modules[name]).values():
                getattr(value, "cache_clear", bool)()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        threading.setprofile(None)
        places = {(Path(code.co_filename), code.co_firstlineno) for code in self._codes}
        self.names |= {definition_at(path, line) for path, line in places}  # here, since threads cannot parse at a time

    def _note(self, frame, event, argument):
        if event != "call":  # most are not, and of calls most are not ours: what is cheap to ask comes first
            return
        code = frame.f_code
        if not code.co_filename.startswith(OURS) or code in self._codes:
            return
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(OURS):
                return
            frame = frame.f_back
        self._codes.add(code)


def defined(node):
    """The name that a statement defines."""
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else node.name


@cache
def spans(path):
    """First and last line, and name, of the definitions of a file, as ``reachable`` names them."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    module = ".".join(parts).removesuffix(".__init__")
    return [
        (
            min([node.lineno, *(found.lineno for found in getattr(node, "decorator_list", []))]),
            node.end_lineno,
            f"{module}:{defined(node)}",
        )
        for node in ast.parse(path.read_text()).body
        if hasattr(node, "name") or isinstance(node, ast.Assign | ast.AnnAssign)
    ]


def definition_at(path, line):
    (name,) = [name for first, last, name in spans(path) if first <= line <= last]
    return name
