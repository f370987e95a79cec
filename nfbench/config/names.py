"""Names and paths that the configuration takes: those that paths, Snakemake, tables and pages can all show."""

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
"""What a name can consist of, as a regular expression for Snakemake; ``name_fault`` is exact beyond ASCII."""
AVERAGE = "average"
"""What tables call the mean of a dataset's categories."""


def name_fault(name: str) -> str:
    """Why a name cannot be taken; empty where it can."""
    if not name:
        return "a name is empty"
    if len(name) > _LONGEST:
        return f"a name has at most {_LONGEST} characters; this one has {len(name)}"
    if len(name.encode(errors="surrogatepass")) > _LONGEST_IN_BYTES:
        return f"a name has at most {_LONGEST_IN_BYTES} bytes in UTF-8, which file names hold; this one has more"
    refused = [c for c in dict.fromkeys(name) if c not in _HARMLESS and unicodedata.category(c)[0] not in "LMN"]
    if refused:
        shown = " ".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in refused)
        return f"a name has letters, digits and {_HARMLESS.strip()} or spaces in it, not {shown}"
    if not (name[0] == "_" or unicodedata.category(name[0])[0] in "LN") or name[-1] == " ":
        return "a name begins with a letter, a digit or _, and does not end in a space"
    return ""


def check_category(name: str, where: str) -> None:
    """Passes where a category found on disk has a name that can be taken.

    Raises:
        NfbenchError: it has not; says ``where`` it is, and why.
    """
    if fault := name_fault(name) or _taken(name):
        raise NfbenchError(f"{where}: category '{printable(name)}': {fault}; rename its folder")


def require_known(asked: Iterable[str], known: Iterable[str], where: str, kind: str = "category") -> None:
    """Passes where all names that are asked for are known.

    Args:
        asked: names to look for.
        known: right names.
        where: file and key that ask for them.
        kind: what they are names of.

    Raises:
        NfbenchError: one is not known; names the nearest one.
    """
    names = list(known)
    for name in asked:
        if name not in names:
            raise NfbenchError(f"{where}: no {kind} '{name}'{nearest(name, names)}")


def _taken(name: str) -> str:
    return f"a category cannot be called '{AVERAGE}', which is what tables call their mean" if name == AVERAGE else ""


def _is_text(value: Any) -> Any:
    """Refuses what YAML or Snakemake made of a name without quotes; what was written is lost, as 01 becomes 1."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float) or hasattr(value, "isoformat"):
        shown = "nothing" if value is None else f"the {_kind(value)} {value}"
        raise PydanticCustomError("name_is_no_text", "{message}", {"message": f"{shown} is no name: {_how_to_quote()}"})
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
        message = f"a title is a line of 1 to {_LONGEST_TITLE} characters, none of them control characters"
        raise PydanticCustomError("title", "{message}", {"message": message})
    return found


def _expand_home(path: str) -> str:
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise PydanticCustomError("home", "there is no home folder of this user")
    if not found or not found.isprintable():
        raise PydanticCustomError("path", "a path is not empty and has no control characters")
    return found


def _has_no_braces(path: str) -> str:
    if "{" in path or "}" in path:
        raise PydanticCustomError("braces", "a path with braces cannot be taken, which Snakemake reads as wildcards")
    return path


def _split(value: Any) -> Any:
    """``bottle, cable`` as two names; one number as a name that lost its quotes."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    if isinstance(value, bool | int | float):
        message = f"was read as the {_kind(value)} {value}; quote names that look like numbers: categories='[\"01\"]'"
        raise PydanticCustomError("categories_are_no_text", "{message}", {"message": message})
    return value


Name = Annotated[str, BeforeValidator(_is_text), AfterValidator(_is_allowed)]
"""Name of an experiment, a table, a figure, a dataset, a variant."""

CategoryName = Annotated[Name, AfterValidator(_is_free)]
"""Name of a category: any but that of a table's mean."""

Title = Annotated[str, AfterValidator(_is_one_line)]
"""What tables and figures print instead of a name; spaces at its ends and line breaks are dropped."""

Names = Annotated[tuple[CategoryName, ...], BeforeValidator(_split, json_schema_input_type=tuple[str, ...] | str)]
"""Categories as a list, or as text with commas."""

HomePath = Annotated[str, BeforeValidator(_is_text), AfterValidator(_expand_home)]
"""A path in which ``~`` is the home folder."""

FolderPath = Annotated[HomePath, AfterValidator(_has_no_braces)]
"""A folder that Snakemake has in its patterns."""
