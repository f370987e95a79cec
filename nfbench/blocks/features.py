"""What a method sees of images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Features"]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Features(Generic[T]):
    """Features of ``B`` images: tensors of a batch, or the arrays that batches are read from.

    Attributes:
        levels: of the backbone, ``(B, C_l, H_l, W_l)``, fine to coarse; ``(B, K, C_l, H_l, W_l)`` of ``K`` rotated
            views; none of the backbone ``image``.
        image: the normalized image ``(B, 3, S, S)``, or ``(B, K, 3, S, S)``; None where it was not kept.
        classes: number of each image's class, ``(B,)``; None where there is no need to know it.
    """

    levels: Sequence[T]
    image: T | None = None
    classes: T | None = None

    __iter__ = None  # indices would make it yield images without an axis of the batch

    def __len__(self) -> int:
        return len(next(self.parts()))

    def map(self, function: Callable[[T], U]) -> "Features[U]":
        """Applies a function to each part that is there."""

        def applied(part: T | None) -> U | None:
            return None if part is None else function(part)

        return Features([function(level) for level in self.levels], applied(self.image), applied(self.classes))

    def __getitem__(self, rows: Any) -> "Features[T]":
        """The features of some images."""
        return self.map(lambda part: part[rows])

    @classmethod
    def join(cls, parts: "Sequence[Features[T]]", function: Callable[[list[T]], U]) -> "Features[U]":
        """Joins features of several sets of images, such as by ``torch.cat``; all have the same parts."""

        def joined(found: Sequence[T | None]) -> U | None:
            return None if found[0] is None else function(list(found))

        levels = [function(list(level)) for level in zip(*(part.levels for part in parts), strict=True)]
        return Features(levels, joined([part.image for part in parts]), joined([part.classes for part in parts]))

    def parts(self) -> Iterator[T]:
        """Each part that is there."""
        yield from self.levels
        yield from (part for part in (self.image, self.classes) if part is not None)
