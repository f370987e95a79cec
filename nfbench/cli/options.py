"""Options that several commands share."""

from typing import Annotated, Any, Literal

import typer
import yaml

from nfbench.config import read_yaml, typed
from nfbench.core.errors import NfbenchError

__all__ = ["Device", "Set", "Threads", "parse_numbers", "parse_overrides"]

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Device; auto uses a GPU if there is one.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Setting of the method, key=value. Repeatable.")]


def parse_overrides(pairs: list[str] | None) -> dict[str, Any]:
    """``["lr=0.001"]`` to ``{"lr": 0.001}``; values are parsed like settings in files.

    Raises:
        NfbenchError: an entry has no ``=``, or a value is not YAML.
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
