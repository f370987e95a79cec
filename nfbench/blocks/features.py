"""Features: the input of methods."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

from nfbench.blocks.tiling import Tiling
from nfbench.core.errors import required

__all__ = ["Features", "Rows"]


class Rows(Protocol):
    """An array or a tensor with one entry per image on its first axis."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> Any: ...


T_co = TypeVar("T_co", bound=Rows, covariant=True)
U = TypeVar("U", bound=Rows)


@dataclass(frozen=True)
class Features(Generic[T_co]):
    """Features of ``B`` images: tensors of a batch, or the arrays that batches are read from.

    Attributes:
        levels: levels of the backbone, ``(B, C_l, H_l, W_l)``, fine to coarse; ``(B, K, C_l, H_l, W_l)`` for ``K``
            rotated views; empty for the backbone ``image``.
        image: the normalized image ``(B, 3, H, W)``, or ``(B, K, 3, H, W)``; None if it was not kept.
        classes: number of each image's class, ``(B,)``; None if it is not needed.
        tiling: for stored features of tiles, the images that they belong to: each row is then one tile. ``map`` and
            indexing by rows drop it, ``select`` keeps it.
    """

    levels: Sequence[T_co]
    image: T_co | None = None
    classes: T_co | None = None
    tiling: Tiling | None = None

    __iter__ = None  # iterating by index would yield images without a batch axis

    def __len__(self) -> int:
        return len(next(self.parts()))

    @property
    def required_image(self) -> T_co:
        """The image, for methods with ``takes_image``.

        Raises:
            ValueError: the image was not kept.
        """
        return required(self.image, "the image of the features")

    @property
    def required_classes(self) -> T_co:
        """The classes, for methods with ``takes_class``.

        Raises:
            ValueError: the classes are not known.
        """
        return required(self.classes, "the class of the images")

    def map(self, function: Callable[[T_co], U]) -> "Features[U]":
        """Apply a function to each part that exists."""
        image, classes = (None if part is None else function(part) for part in (self.image, self.classes))
        return Features([function(level) for level in self.levels], image, classes)

    def __getitem__(self, rows: Any) -> "Features[T_co]":
        """Return the features of some images."""
        return self.map(itemgetter(rows))

    @property
    def n_images(self) -> int:
        """Number of images, each of which may have several tiles."""
        return len(self) if self.tiling is None else len(self.tiling)

    def rows(self, images: Any) -> Any:
        """Return the rows of some images, by number."""
        return images if self.tiling is None else self.tiling.rows(images)

    def select(self, images: Any) -> "Features[T_co]":
        """Return the features of some images, by number, with all tiles of each."""
        if self.tiling is None:
            return self[images]
        return replace(self[self.rows(images)], tiling=self.tiling.select(images))

    @classmethod
    def join(cls, parts: "Sequence[Features[T_co]]", function: Callable[[list[T_co]], U]) -> "Features[U]":
        """Join features of several sets of images, such as by ``torch.cat``; all must have the same parts."""
        levels = [function(list(level)) for level in zip(*(part.levels for part in parts), strict=True)]
        images = [part.image for part in parts if part.image is not None]
        classes = [part.classes for part in parts if part.classes is not None]
        if not {len(images), len(classes)} <= {0, len(parts)}:
            raise ValueError("cannot join features with and without an image or classes")
        tilings = [part.tiling for part in parts if part.tiling is not None]
        return Features(
            levels,
            function(images) if images else None,
            function(classes) if classes else None,
            Tiling.join(tilings) if tilings else None,
        )

    def parts(self) -> Iterator[T_co]:
        """Yield each part that exists."""
        yield from self.levels
        yield from (part for part in (self.image, self.classes) if part is not None)
