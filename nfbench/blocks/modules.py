"""Typed lists of modules."""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import nn

__all__ = ["Modules"]

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """``nn.ModuleList`` with a type parameter, so that type checkers know the methods of its modules."""

    def __iter__(self) -> Iterator[M]:
        return cast("Iterator[M]", super().__iter__())
