"""Models that know all their keys, and errors that name the source, the key and the nearest right key."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest

__all__ = ["Model", "find_faults", "printable", "validate"]


class Model(BaseModel):
    """Part of the configuration: frozen, and without keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def validate(model: type[Model], values: Mapping[str, Any], source: str) -> Any:
    """Validates ``values``; the error names the source, the key, and the nearest right key.

    Raises:
        NfbenchError: an unknown key, a missing key, or a value of the wrong type or range.
    """
    found, faults = find_faults(model, values, source)
    if faults:
        raise NfbenchError("; ".join(faults))
    return found


def find_faults(model: type[Model], values: Mapping[str, Any], source: str) -> tuple[Any, list[str]]:
    """The model of ``values``, None where they have faults, and one line for each fault."""
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        entries = error.errors()
        inner = {entry["loc"][:end] for entry in entries for end in range(len(entry["loc"]))}
        own = [entry for entry in entries if entry["type"] != "too_short" or entry["loc"] not in inner]
        return None, [_describe(entry, model, source) for entry in own]


def printable(text: str) -> str:
    """A text in one line: control characters as their numbers."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _describe(entry: Mapping[str, Any], model: type[BaseModel], source: str) -> str:
    keys, nested = _locate(model, entry["loc"])
    if not keys:
        return f"{source}: {entry['msg']}"
    key = printable(".".join(keys))
    if entry["type"] == "extra_forbidden":
        return f"{source}: unknown key '{key}'{nearest(keys[-1], nested.model_fields)}"
    got = f" (got {entry['input']!r})" if isinstance(entry["input"], str | int | float | None) else ""
    return f"{source}: '{key}': {entry['msg']}{got}"


def _locate(model: type[BaseModel], location: tuple[Any, ...]) -> tuple[list[str], type[BaseModel]]:
    """The keys that lead to an error, and the innermost model on the way.

    pydantic's location of an error names the kind of a table too, which is no key; it tells which model is meant. Nor
    are the forms of a value, such as ``<list>``, or the mark of an error that a key itself has.
    """
    keys, models = [], [model]
    for part in location:
        if part == "[key]" or (isinstance(part, str) and part.startswith("<")):
            continue
        of_kind = [
            found for found in models if "kind" in found.model_fields and found.model_fields["kind"].default == part
        ]
        if of_kind:
            models = of_kind
            continue
        keys.append(str(part))
        field = models[0].model_fields.get(part)
        annotation = field.annotation if field else None
        nested = [kind for kind in _nested_types(annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        models = nested or models
    return keys, models[0]


def _nested_types(annotation: Any) -> list[Any]:
    inner = [found for part in getattr(annotation, "__args__", ()) for found in _nested_types(part)]
    return [annotation, *inner]
