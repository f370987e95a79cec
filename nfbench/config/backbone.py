"""Configuration of a backbone: keys, shapes of its features, and its name in paths."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from nfbench.backbones._base import Backbone, find_backbone
from nfbench.config.names import HomePath, Name
from nfbench.config.tiles import TilesConfig
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize

__all__ = ["BackboneConfig", "Backbones", "Key", "Shape"]

Shape = tuple[int, int, int]
"""``(C, H, W)``."""

_HEAD = ("name", "input_size")
"""Keys that begin every tag."""

_Side = Annotated[int, Field(ge=32)]
_Sides = Annotated[
    Annotated[_Side, Tag("<side>")] | Annotated[tuple[_Side, _Side], Tag("<sides>")],
    Discriminator(lambda value: "<sides>" if isinstance(value, list | tuple) else "<side>"),
    AfterValidator(lambda sides: InputSize.of(sides).sides),
]


@dataclass(frozen=True)
class Key:
    """How a key of a backbone enters tags, hashes and errors.

    Tags, hashes of caches, ``meta.json`` and errors are derived from the fields of ``BackboneConfig``. A field without
    a ``Key`` affects the features, and its value appears in the tag as a short hash.

    Attributes:
        short: returns the part of the tag for a value that is not the default; an empty string adds no part.
        decides: whether the value itself affects the features. False for a value that only refers to something, such
            as a path, and for one that does not change the features.
        of_levels: whether the key is valid only for a backbone with levels.
    """

    short: Callable[[Any], str]
    decides: bool = True
    of_levels: bool = False


class BackboneConfig(Model):
    """A backbone and its input size."""

    name: Name = Field(description="name of the backbone, with its weight tag")
    input_size: _Sides = Field(256, description="side of the square input in pixels, or [height, width]")
    levels: Annotated[tuple[int, ...] | None, Key(lambda levels: "l" + "".join(map(str, levels)), of_levels=True)] = (
        Field(None, min_length=1, description="levels, from fine to coarse; default: the backbone's own")
    )
    scales: Annotated[tuple[int, ...] | None, Key(lambda scales: "s" + ".".join(map(str, scales)), of_levels=True)] = (
        Field(
            None,
            min_length=1,
            description="divisors of the input size; levels are extracted at each resulting size",
        )
    )
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bilinear_aligned", "bicubic_aligned"] | None, Key(str, of_levels=True)
    ] = Field(None, description="interpolation used to resize the input; default: the backbone's own")
    padding: Annotated[Literal["zeros", "reflect"], Key(str, of_levels=True)] = Field(
        "zeros", description="padding mode of all convolutions"
    )
    pyramid: Annotated[bool, Key(lambda _: "pyramid", of_levels=True)] = Field(
        False,
        description="average levels of one size over 2^k x 2^k positions, k = 0, 1, .., for methods that take levels "
        "that halve in size",
    )
    rotations: Annotated[int, Key("r{}".format)] = Field(
        0, ge=0, description="number of rotated views per image, for methods that use views"
    )
    pooled: Annotated[bool, Key(lambda _: "pooled", of_levels=True)] = Field(
        False, description="keep only the global average of each level"
    )
    image: Annotated[bool, Key(lambda _: "image")] = Field(
        False, description="also keep the normalized image, for methods that read it"
    )
    frozen: Annotated[bool, Key(lambda _: "tuned", of_levels=True)] = Field(
        True, description="if false, the method trains the network from these weights on the normalized image"
    )
    online: Annotated[bool, Key(lambda _: "online", decides=False)] = Field(
        False, description="compute features each time they are read, for datasets too large to cache"
    )
    tiles: Annotated[TilesConfig | None, Key(lambda tiles: tiles.tag)] = Field(
        None, description="cut images into tiles, for small defects in large images; default: the whole image"
    )
    weights: Annotated[HomePath, Key(lambda weights: "random" if weights == "random" else "", decides=False)] = Field(
        "default", description="'default', 'package', 'hub', 'random', or the path of a weights file"
    )

    @field_validator("levels", "scales")
    @classmethod
    def _come_in_order(cls, numbers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if numbers and list(numbers) != sorted(set(numbers)):
            wanted = ", ".join(map(str, sorted(set(numbers))))
            raise PydanticCustomError("order", "must be in order, each once: [{wanted}]", {"wanted": wanted})
        return numbers

    @classmethod
    def key(cls, field: str) -> Key:
        """Return the ``Key`` of a field."""
        declared = (found for found in cls.model_fields[field].metadata if isinstance(found, Key))
        return next(declared, Key(lambda value: _short_hash(field, value)))

    @property
    def tag(self) -> str:
        """Name in paths: ``name@size``, then one part per other key that is not the default."""
        return "-".join([f"{self.name}@{self.size}", *self.tag_parts.values()])

    @property
    def size(self) -> InputSize:
        """Height and width of the input."""
        return InputSize.of(self.input_size)

    @property
    def tag_parts(self) -> dict[str, str]:
        """Parts of the tag after ``name@size``, by key."""
        parts = {name: self.key(name).short(value) for name, value in self._given.items()}
        return {name: part for name, part in parts.items() if part}

    @property
    def _given(self) -> dict[str, Any]:
        """Values that differ from the default, without the keys that begin the tag."""
        defaults = {
            name: field.get_default(call_default_factory=True) for name, field in type(self).model_fields.items()
        }
        return {name: value for name, value in self if name not in _HEAD and value != defaults[name]}

    @property
    def described(self) -> Backbone:
        """Description of the backbone.

        Raises:
            NfbenchError: the backbone is unknown; the message suggests the nearest name.
        """
        return find_backbone(self.name)

    def resolved(self) -> Self:
        """Return a copy in which unset keys have the backbone's own values."""
        described = self.described
        found: dict[str, Any] = {"image": self.stores_image}
        if described.taps:
            found |= {name: getattr(described, name, None) for name, value in self if value is None}
        if self.weights == "default" or not described.taps:
            found["weights"] = described.weights
        return self.model_copy(update=found)

    @property
    def stores_image(self) -> bool:
        """Whether the normalized image is kept: on request, or if there are no levels to keep."""
        return self.image or not self.frozen or not self.described.taps

    @property
    def image_shape(self) -> Shape | None:
        """Shape of the normalized image; None if it is not kept."""
        return (3, *self.size) if self.stores_image else None

    @property
    def level_shapes(self) -> dict[str, Shape]:
        """Shape of each level that is kept, by file name; the image is not a level.

        Raises:
            NfbenchError: as for ``network_shapes``.
        """
        shapes = self.network_shapes
        return shapes if self.frozen else {}

    @property
    def network_shapes(self) -> dict[str, Shape]:
        """Shape of each level that the network computes, at each scale.

        Raises:
            NfbenchError: the backbone does not support these keys: unknown levels, an invalid input size, or keys for
                levels if it has none.
        """
        described = self.described
        if not described.taps:
            self._refuse_keys_of_levels()
        if not self.frozen and (self.pooled or self.rotations):
            key = "pooled" if self.pooled else "rotations"
            raise NfbenchError(f"backbone '{self.name}': '{key}' and 'frozen: false' cannot be combined")
        if not self.size.keeps_frame(self.rotations):
            raise NfbenchError(
                f"backbone '{self.name}': 'rotations: {self.rotations}' turns images of {self.size} pixels out of "
                "their frame; use a square 'input_size', or 'rotations: 2'"
            )
        levels, scales = self.levels or described.levels, self.scales or described.scales
        shapes = described.shapes(self.input_size, levels, scales, pyramid=self.pyramid)
        if self.pooled:
            shapes = [(channels, 1, 1) for channels, _, _ in shapes]
        names = (f"level{level}" + ("" if scale == 1 else f"-scale{scale}") for scale in scales for level in levels)
        return dict(zip(names, shapes, strict=True))

    def _refuse_keys_of_levels(self) -> None:
        refused = [name for name in self._given if self.key(name).of_levels]
        if self.weights not in {"default", "random", "none"}:
            refused.append("weights")
        if refused:
            raise NfbenchError(f"backbone '{self.name}' has no levels and no weights; remove '{refused[0]}'")


def _short_hash(key: str, value: Any) -> str:
    return hashlib.sha256(f"{key}={json.dumps(value, default=str)}".encode()).hexdigest()[:8]


def _by_name(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return [{"name": item} if isinstance(item, str) else item for item in value]


Backbones = Annotated[
    tuple[BackboneConfig, ...], BeforeValidator(_by_name, json_schema_input_type=tuple[BackboneConfig | str, ...])
]
"""Several backbones. A bare name stands for that backbone with its defaults."""
