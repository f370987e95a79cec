"""Options that several commands share."""

from typing import Annotated, Any, Literal

import typer
import yaml

from nfbench.core.errors import NfbenchError

__all__ = ["Device", "Set", "Threads", "parse_numbers", "parse_overrides"]

Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto takes a GPU if any.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads, by default all.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting of the method, key=value; repeatable.")]


def parse_overrides(pairs: list[str] | None) -> dict[str, Any]:
    """``["lr=0.001"]`` to ``{"lr": 0.001}``; values are read as YAML.

    Raises:
        NfbenchError: an entry has no ``=``.
    """
    overrides: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise NfbenchError(f"--set {pair}: expected key=value")
        overrides[key] = _number(yaml.safe_load(value))
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


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
