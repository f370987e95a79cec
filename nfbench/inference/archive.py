"""Safety check of a ``torch.export`` file before torch loads it.

Torch resolves function names, evaluates expressions and unpickles data if such a file asks for it. A graph of tensors
needs none of that, so such files are refused. Loading a file then runs no code except torch's own operators.
"""

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from nfbench.core.errors import NfbenchError

__all__ = ["METADATA_FILE", "read_program"]

METADATA_FILE = "nfbench.json"

_MODEL, _SAMPLE, _EXTRA = "models/model.json", "data/sample_inputs/model.pt", f"extra/{METADATA_FILE}"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_FILE = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+|archive_(format|version)|byteorder|\.data/\w+")
_OPERATOR = re.compile(r"torch\.ops\.(aten)\.(\w+)\.(\w+)")
_ARITHMETIC = re.compile(r"_operator\.(add|sub|mul|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem)")
_ON_FILES = {"from_file"}
_SIZE = r"Symbol\('[su]\d+'(, (positive|nonnegative|integer)=True)*\)"
_EXPRESSION = re.compile(rf"({_SIZE}|Add|Mul|Pow|Integer|Max|Min|FloorDiv|CleanDiv|Mod|PythonMod|-?\d+|[(), ])+")
_CODE = {"as_graph", "as_custom_obj", "as_operator"}


def read_program(path: Path) -> tuple[torch.export.ExportedProgram, str]:
    """Reads the program and nfbench's metadata text from a ``torch.export`` file.

    Raises:
        NfbenchError: the file contains more than operators on tensors.
        Exception: any error of torch, for a damaged or foreign file.
    """
    from torch.export.pt2_archive._package import PT2ArchiveReader, load_pt2

    with path.open("rb") as file:
        reader = PT2ArchiveReader(file)  # torch loads with the same reader, so both see the same files
        if fault := next(_faults(reader), None):
            raise NfbenchError(f"{path} contains {fault}, which could run code; export the model again")
        text = reader.read_string(_EXTRA)
        file.seek(0)
        return load_pt2(file).exported_programs["model"], text


def _faults(reader: Any) -> Iterator[str]:
    """Yields the parts of a file that are not needed for a graph of tensors."""
    known = {_MODEL, _SAMPLE, _EXTRA, *_CONFIGS}
    yield from (name for name in reader.get_file_names() if name not in known and not _FILE.fullmatch(name))
    try:
        torch.load(BytesIO(reader.read_bytes(_SAMPLE)), weights_only=True)
    except Exception:  # torch would try again with full unpickling
        yield _SAMPLE
    for name in _CONFIGS:
        yield from (f"pickles in {name}" for key, value in _items(json.loads(reader.read_string(name)))
                    if key == "use_pickle" and value)  # fmt: skip
    model = json.loads(reader.read_string(_MODEL))
    yield from (f"the function {name}" for name in _targets(model) if not _is_harmless(name))
    for key, value in _items(model):
        if (key in _CODE and value is not None) or (key in {"guards_code", "metadata"} and value):
            yield f"'{key}'"
        if key == "expr_str" and not _EXPRESSION.fullmatch(str(value)):
            yield f"the expression {str(value)[:40]!r}"


def _targets(model: Any) -> Iterator[str]:
    yield from (str(node["target"]) for node in model["graph_module"]["graph"]["nodes"])


def _is_harmless(target: str) -> bool:
    """Whether a function only computes with tensors or numbers."""
    if _ARITHMETIC.fullmatch(target):
        return True
    found = _OPERATOR.fullmatch(target)
    if found is None or found[2] in _ON_FILES:
        return False
    overload = "" if found[3] == "default" else found[3]
    return torch._C._dispatch_has_kernel(f"aten::{found[2]}{overload and '.' + overload}")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields all keys of a JSON value with their values, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)
