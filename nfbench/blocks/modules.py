"""Lists of modules whose type is known."""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import nn

__all__ = ["Modules"]

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """``nn.ModuleList`` that says what its modules are, for those whose own methods are called."""

    def __iter__(self) -> Iterator[M]:
        return cast("Iterator[M]", super().__iter__())
