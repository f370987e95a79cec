"""Height and width of the input of a backbone."""

from typing import NamedTuple

__all__ = ["InputSize", "Sides"]

Sides = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""


class InputSize(NamedTuple):
    """Height and width in pixels, always in this order; its text is ``256`` for a square and ``256x512`` otherwise."""

    height: int
    width: int

    @classmethod
    def of(cls, sides: Sides) -> "InputSize":
        """Return the size with these sides."""
        return cls(sides, sides) if isinstance(sides, int) else cls(*sides)

    @property
    def is_square(self) -> bool:
        """Whether height and width are equal."""
        return self.height == self.width

    @property
    def sides(self) -> Sides:
        """As in a configuration: one number for a square, otherwise height and width."""
        return self.height if self.is_square else (self.height, self.width)

    @property
    def width_height(self) -> tuple[int, int]:
        """In the order of Pillow."""
        return self.width, self.height

    @property
    def shorter(self) -> int:
        """Length of the shorter side."""
        return min(self)

    def keeps_frame(self, views: int) -> bool:
        """Whether evenly rotated views fill the same frame: of an image that is not square, 0 and 180 degrees do."""
        return self.is_square or views <= 2

    def divided(self, divisor: int) -> "InputSize":
        """Return the size with both sides divided by a number, rounded down."""
        return InputSize(self.height // divisor, self.width // divisor)

    def __str__(self) -> str:
        return str(self.height) if self.is_square else f"{self.height}x{self.width}"
