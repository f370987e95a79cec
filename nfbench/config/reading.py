"""Reads YAML and keeps text as written: ``01``, ``1e5``, ``no`` and ``2024`` stay names.

The reader resolves only null. Pydantic converts text to numbers and truth values where a model expects them. Where a
model accepts any type, as in the settings of a method, ``typed`` converts text by the rules of YAML 1.2.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from pydantic import BeforeValidator

from nfbench.core.errors import NfbenchError

__all__ = ["Typed", "read_mapping", "read_yaml", "typed"]

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", re.IGNORECASE)
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


if TYPE_CHECKING:
    from yaml import SafeLoader as _Fastest
else:
    _Fastest = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(str):
    """A scalar without quotes."""

    __slots__ = ()


class _Loader(_Fastest):
    """Keeps scalars as written and refuses duplicate keys; uses the fast libyaml if available."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        first = super().get_single_node()
        for mapping in _mappings(first):
            keys = [key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)]
            seen: set[str] = set()
            for key in (key for key in keys if not key.tag.endswith("merge")):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key.value}'", key.start_mark)
                seen.add(key.value)
        return first


def _mappings(first: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Yield each mapping in a node once; an alias is the node that it names."""
    known, waiting = set(), [first]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in known:
            continue
        known.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [part for pair in node.value for part in pair]
        else:
            waiting += node.value


def _construct_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return node.value if node.style else _Plain(node.value)


_Loader.add_constructor("tag:yaml.org,2002:str", _construct_text)


def read_yaml(text: str) -> Any:
    """Parse YAML into text as written, or None; ``typed`` converts text without quotes to numbers."""
    return yaml.load(text, _Loader)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        NfbenchError: the file is missing, not UTF-8, not valid YAML, or holds no mapping; the message names it.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise NfbenchError(f"{path}: not UTF-8: {error.reason} at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise NfbenchError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise NfbenchError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        raise NfbenchError(f"{path}: the file is empty; expected keys and values, such as 'title: ...'")
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "one value"
        raise NfbenchError(f"{path}: expected keys and values, such as 'title: ...', but found {kind}")
    return values


def typed(value: Any) -> Any:
    """Convert text without quotes to numbers and truth values by the rules of YAML 1.2; keep the rest."""
    if isinstance(value, Mapping):
        return {str(key) if isinstance(key, str) else key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [typed(inner) for inner in value]
    return _scalar(value) if isinstance(value, _Plain) else value


def _scalar(text: str) -> bool | int | float | str:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return _WORDS.get(text, str(text))


Typed = BeforeValidator(typed)
"""Marks a field that accepts values of several types."""
