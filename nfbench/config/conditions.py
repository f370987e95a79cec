"""Conditions of runs: what an experiment changes to see which methods break first.

Conditions on an axis: ``shots`` and ``contamination`` change the training images, ``light``, ``blur``, ``noise`` and
``rotation`` the test images. The name of a condition says all about it; the empty name is that of unchanged images.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from nfbench.config.validation import Model

__all__ = [
    "AXES",
    "SHIFTS",
    "Condition",
    "ContaminationList",
    "ShiftConfig",
    "ShotsList",
    "condition_of",
    "condition_pattern",
    "conditions_of",
    "shift_of_view",
]

SHIFTS = {
    "light": "exposure, stops",
    "blur": "blur, % of the side",
    "noise": "noise, grey levels",
    "rotation": "rotation, degrees",
}
"""Axes of shifts of test images, with their units."""

_TITLES = {
    "shots": "normal training images",
    "contamination": "anomalies added per normal training image",
    **SHIFTS,
}
AXES = tuple(_TITLES)
"""All axes, in the order of tables."""

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_NAME = re.compile(rf"(?P<axis>{'|'.join(_TITLES)})(?P<strength>{_NUMBER})(?:-of-(?P<largest>{_NUMBER}))?")
_TEST = "test"


@dataclass(frozen=True)
class Condition:
    """One condition.

    Attributes:
        axis: ``shots``, ``contamination``, or one of ``SHIFTS``; empty for unchanged images.
        strength: number of images, ratio, or strength of the shift in the unit of its axis.
        largest: the largest ratio of the experiment's contamination, whose images leave the test set at all ratios.
    """

    axis: str = ""
    strength: float = 0.0
    largest: float = 0.0

    def __str__(self) -> str:
        """Name of the condition, such as ``shots4``, ``contamination0.05-of-0.2`` or ``blur2``."""
        if not self.axis:
            return ""
        of = f"-of-{self.largest:g}" if self.axis == "contamination" else ""
        return f"{self.axis}{self.strength:g}{of}"

    @property
    def axis_title(self) -> str:
        """What its strength counts or measures, with the unit."""
        return _TITLES.get(self.axis, "")

    @property
    def is_shift(self) -> bool:
        """Whether it changes test images."""
        return self.axis in SHIFTS

    @property
    def trains(self) -> bool:
        """Whether it changes the training images, so that it needs a training of its own."""
        return self.axis == "shots" or (self.axis == "contamination" and self.strength > 0)

    @property
    def training(self) -> str:
        """Name of the condition of its training: its own, or that of unchanged images."""
        return str(self) if self.trains else ""

    @property
    def test_view(self) -> str:
        """View with the features of its test images."""
        return f"{_TEST}-{self}" if self.is_shift else _TEST

    def n_train(self, n_normal: int) -> int:
        """Number of training images of a category that has this number of normal ones."""
        if self.axis == "shots":
            return min(int(self.strength), n_normal)
        return n_normal + self.n_added(n_normal)

    def n_added(self, n_normal: int, *, largest: bool = False) -> int:
        """Number of anomalies added to this number of normal images, at its ratio or at the largest one."""
        ratio = self.largest if largest else self.strength
        return max(1, round(ratio * n_normal)) if self.axis == "contamination" and ratio else 0


@cache
def condition_of(name: str) -> Condition:
    """Return the condition with a name.

    Raises:
        ValueError: no condition has this name.
    """
    if not name:
        return Condition()
    found = _NAME.fullmatch(name)
    if found is None or (found["axis"] == "contamination") != (found["largest"] is not None):
        raise ValueError(f"no condition has the name '{name}'")
    return Condition(found["axis"], float(found["strength"]), float(found["largest"] or 0))


def condition_pattern() -> str:
    """Regular expression of the part of a run's path that names its condition, which may be empty."""
    return rf"(?:-(?:{'|'.join(_TITLES)})[0-9.]+(?:-of-[0-9.]+)?)?"


def shift_of_view(view: str) -> str:
    """Return the name of the shift whose test images are in a view; empty for other views."""
    name = view.removeprefix(f"{_TEST}-")
    return name if name != view and name.startswith(tuple(SHIFTS)) else ""


def _printable(values: tuple[float, ...]) -> tuple[float, ...]:
    """Refuse numbers that a name cannot hold, and repeated ones."""
    for value in values:
        if float(f"{value:g}") != value or "e" in f"{value:g}":
            text = f"{value!r} has too many digits for the name of a run; use at most 6 and no value below 0.0001"
            raise PydanticCustomError("digits", "{text}", {"text": text})
    if len(set(values)) < len(values):
        raise PydanticCustomError("repeated", "lists a value twice")
    return values


def _has_largest(values: tuple[float, ...]) -> tuple[float, ...]:
    if values and not max(values):
        raise PydanticCustomError(
            "no_largest", "needs a ratio above 0; the largest one decides which images are tested"
        )
    return values


ShotsList = Annotated[tuple[Annotated[int, Field(ge=1, le=99999)], ...], AfterValidator(_printable)]
ContaminationList = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...], AfterValidator(_printable), AfterValidator(_has_largest)
]
_Stops = Annotated[tuple[Annotated[float, Field(ge=0, le=8)], ...], AfterValidator(_printable)]
_Percent = Annotated[tuple[Annotated[float, Field(ge=0, le=25)], ...], AfterValidator(_printable)]
_Levels = Annotated[tuple[Annotated[float, Field(ge=0, le=255)], ...], AfterValidator(_printable)]
_Degrees = Annotated[tuple[Annotated[float, Field(ge=0, le=180)], ...], AfterValidator(_printable)]


class ShiftConfig(Model):
    """Changes of test images before they are resized. Models and thresholds are those of unchanged images.

    The direction of a change and its noise follow from the hash of the image, so they are equal for all methods, seeds
    and strengths. Strength 0 is the unchanged image.
    """

    light: _Stops = Field((), description="changes of the exposure in stops: half brighter, half darker")
    blur: _Percent = Field((), description="standard deviations of Gaussian blur, in percent of the shorter side")
    noise: _Levels = Field((), description="standard deviations of Gaussian noise, in grey levels of 255")
    rotation: _Degrees = Field(
        (),
        description="rotations in degrees about the centre, half clockwise, mirrored at the border; masks rotate too",
    )


def conditions_of(shots: tuple[int, ...], contamination: tuple[float, ...], shift: ShiftConfig) -> tuple[str, ...]:
    """Return the names of all conditions of a block, beginning with unchanged images, which is part of each axis."""

    def each() -> Iterator[Condition]:
        yield Condition()
        yield from (Condition("shots", count) for count in shots)
        yield from (Condition("contamination", ratio, max(contamination)) for ratio in contamination)
        for axis in SHIFTS:
            yield from (Condition(axis, strength) for strength in getattr(shift, axis) if strength)

    return tuple(dict.fromkeys(map(str, each())))
