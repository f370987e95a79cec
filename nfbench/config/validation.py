"""Models that refuse unknown keys, with errors that name the source, the key and the nearest valid key."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

__all__ = ["Model", "find_faults", "printable", "validate"]


class Model(BaseModel):
    """Base of all parts of the configuration: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def meant_by(cls, values: Any) -> "type[Model]":
        """Return the model for ``values``; a subclass may choose it by the values."""
        return cls


def validate(model: type[Model], values: Mapping[str, Any], source: str) -> Any:
    """Validates ``values``; the error names the source, the key and the nearest valid key.

    Raises:
        NfbenchError: an unknown key, a missing key, or a value of the wrong type or range.
    """
    found, faults = find_faults(model, values, source)
    if faults:
        raise NfbenchError("; ".join(faults))
    return found


def find_faults(model: type[Model], values: Mapping[str, Any], source: str) -> tuple[Any, list[str]]:
    """Return the model of ``values``, or None if they have faults, and one line per fault."""
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        entries = error.errors()
        inner = {entry["loc"][:end] for entry in entries for end in range(len(entry["loc"]))}
        own = [entry for entry in entries if entry["type"] != "too_short" or entry["loc"] not in inner]
        return None, [_describe(entry, model, values, source) for entry in own]


def printable(text: str) -> str:
    """Return a text with control characters escaped."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _describe(entry: Mapping[str, Any], model: type[Model], values: Mapping[str, Any], source: str) -> str:
    keys, nested = _locate(model, values, entry["loc"])
    if not keys:
        return f"{source}: {entry['msg']}"
    key = printable(".".join(keys))
    if entry["type"] == "extra_forbidden":
        return f"{source}: unknown key '{key}'{nearest(keys[-1], nested.model_fields)}"
    got = f" (got {entry['input']!r})" if isinstance(entry["input"], str | int | float | None) else ""
    return f"{source}: '{key}': {entry['msg']}{got}"


def _locate(model: type[Model], values: Any, location: tuple[Any, ...]) -> tuple[list[str], type[Model]]:
    """Return the keys that lead to an error, and the model of the last key.

    A location in pydantic also contains tags of a union, such as ``<list>``, and the mark ``[key]`` for an error in a
    key itself; neither is a key.
    """
    keys, owner = [], model
    for part in location:
        if part == "[key]" or (isinstance(part, str) and part.startswith("<")):
            continue
        keys.append(str(part))
        owner = model.meant_by(values)
        field = owner.model_fields.get(part)
        model = next(iter(_models_in(field.annotation)), model) if field else model
        try:
            values = values[part]
        except (LookupError, TypeError):  # a default, or a value without parts
            values = None
    return keys, owner


def _models_in(annotation: Any) -> list[type[Model]]:
    inner = [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
    return [annotation, *inner] if isinstance(annotation, type) and issubclass(annotation, Model) else inner
