"""Valid names and paths in the configuration: safe in file paths, Snakemake, tables and HTML."""

import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from nfbench.config.validation import printable
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

__all__ = [
    "NAME_PATTERN",
    "CategoryName",
    "FolderPath",
    "HomePath",
    "Name",
    "Names",
    "Title",
    "check_category",
    "name_fault",
    "require_known",
]

_HARMLESS = " ._-+()@=&%#!'$"
_LONGEST = 100
_LONGEST_IN_BYTES = 200
_LONGEST_TITLE = 200
NAME_PATTERN = rf"[\w{re.escape(_HARMLESS)}\u0080-\U0010ffff]+"
"""Regular expression of names for Snakemake. ``name_fault`` is stricter beyond ASCII."""
AVERAGE = "average"
"""Name of the mean over a dataset's categories in tables."""


def name_fault(name: str) -> str:
    """Return why a name is invalid; empty if it is valid."""
    if not name:
        return "a name cannot be empty"
    if len(name) > _LONGEST:
        return f"a name has at most {_LONGEST} characters; this one has {len(name)}"
    if len(name.encode(errors="surrogatepass")) > _LONGEST_IN_BYTES:
        return f"a name has at most {_LONGEST_IN_BYTES} bytes in UTF-8, to fit into file names; this one has more"
    refused = [c for c in dict.fromkeys(name) if c not in _HARMLESS and unicodedata.category(c)[0] not in "LMN"]
    if refused:
        shown = " ".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in refused)
        return f"a name can have letters, digits, spaces and {_HARMLESS.strip()} in it, but not {shown}"
    if not (name[0] == "_" or unicodedata.category(name[0])[0] in "LN") or name[-1] == " ":
        return "a name must begin with a letter, a digit or _, and must not end in a space"
    return ""


def check_category(name: str, where: str) -> None:
    """Check the name of a category that was found on disk.

    Raises:
        NfbenchError: the name is invalid; the message begins with ``where`` and gives the reason.
    """
    if fault := name_fault(name) or _taken(name):
        raise NfbenchError(f"{where}: category '{printable(name)}': {fault}; rename its folder")


def require_known(asked: Iterable[str], known: Iterable[str], where: str, kind: str = "category") -> None:
    """Check that all requested names are known.

    Args:
        asked: requested names.
        known: valid names.
        where: file and key of the request, for the message.
        kind: kind of thing that the names stand for.

    Raises:
        NfbenchError: a name is unknown; the message suggests the nearest one.
    """
    names = list(known)
    for name in asked:
        if name not in names:
            raise NfbenchError(f"{where}: no {kind} '{name}'{nearest(name, names)}")


def _taken(name: str) -> str:
    return f"a category cannot be called '{AVERAGE}': tables use this name for the mean" if name == AVERAGE else ""


def _is_text(value: Any) -> Any:
    """Refuse values that YAML or Snakemake converted: the original text is lost, as when 01 becomes 1."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float) or hasattr(value, "isoformat"):
        shown = "nothing" if value is None else f"the {_kind(value)} {value}"
        message = f"{shown} is not a name: {_how_to_quote()}"
        raise PydanticCustomError("name_is_no_text", "{message}", {"message": message})
    return value


def _kind(value: object) -> str:
    return "truth value" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "date"


def _how_to_quote() -> str:
    return 'put names that look like numbers, dates, yes, no or null in quotes, such as "01"'


def _is_allowed(name: str) -> str:
    if fault := name_fault(name):
        raise PydanticCustomError("name", "{message}", {"message": fault})
    return name


def _is_free(name: str) -> str:
    if fault := _taken(name):
        raise PydanticCustomError("category", "{message}", {"message": fault})
    return name


def _is_one_line(title: str) -> str:
    found = " ".join(title.split())
    if not found or len(found) > _LONGEST_TITLE or not found.isprintable():
        message = f"a title is one line of 1 to {_LONGEST_TITLE} characters without control characters"
        raise PydanticCustomError("title", "{message}", {"message": message})
    return found


def _expand_home(path: str) -> str:
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise PydanticCustomError("home", "this user has no home folder; give the full path")
    if not found or not found.isprintable():
        raise PydanticCustomError("path", "a path cannot be empty or have control characters")
    return found


def _has_no_braces(path: str) -> str:
    if "{" in path or "}" in path:
        raise PydanticCustomError("braces", "a path cannot contain braces: Snakemake reads them as wildcards")
    return path


def _split(value: Any) -> Any:
    """Split ``bottle, cable`` into two names, and refuse a number, which is a name that lost its quotes."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, bool | int | float):
        message = f"was read as the {_kind(value)} {value}; quote names that look like numbers: categories='[\"01\"]'"
        raise PydanticCustomError("categories_are_no_text", "{message}", {"message": message})
    return value


Name = Annotated[str, BeforeValidator(_is_text), AfterValidator(_is_allowed)]
"""Name of an experiment, table, figure, dataset or variant."""

CategoryName = Annotated[Name, AfterValidator(_is_free)]
"""Name of a category: any name except ``average``."""

Title = Annotated[str, AfterValidator(_is_one_line)]
"""Text that tables and figures print instead of a name. Line breaks and outer spaces are removed."""

Names = Annotated[tuple[CategoryName, ...], BeforeValidator(_split, json_schema_input_type=tuple[str, ...] | str)]
"""Categories as a list or as comma-separated text."""

HomePath = Annotated[str, BeforeValidator(_is_text), AfterValidator(_expand_home)]
"""A path; ``~`` expands to the home folder."""

FolderPath = Annotated[HomePath, AfterValidator(_has_no_braces)]
"""A folder that Snakemake uses in its patterns, and that therefore has no braces."""
