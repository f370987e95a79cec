"""Options that several commands share."""

from typing import Annotated, Any, Literal

import typer
import yaml

from nfbench.config import read_yaml, typed
from nfbench.core.errors import NfbenchError

__all__ = ["Device", "Set", "Threads", "parse_numbers", "parse_overrides"]

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto takes a GPU if any.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads, by default all.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the method, key=value; repeatable.")]


def parse_overrides(pairs: list[str] | None) -> dict[str, Any]:
    """``["lr=0.001"]`` to ``{"lr": 0.001}``; values are read as those of settings in files are.

    Raises:
        NfbenchError: an entry has no ``=``, or a value is no YAML.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise NfbenchError(f"--set {pair}: expected key=value")
        try:
            overrides[key] = typed(read_yaml(value))
        except yaml.YAMLError as error:
            raise NfbenchError(f"--set {pair}: not valid YAML: {' '.join(str(error).split())}") from None
    return overrides


def parse_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """``"1,2,3"`` to ``(1, 2, 3)``; None stays None.

    Raises:
        NfbenchError: not a list of numbers; names the option.
    """
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise NfbenchError(f"--{option} {text}: expected numbers with commas, such as 1,2,3") from None
