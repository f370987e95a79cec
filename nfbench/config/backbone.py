"""A backbone at an input size: its keys, what follows from them, and its name in paths."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from nfbench.backbones._base import Backbone, find_backbone
from nfbench.config.names import HomePath, Name
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError

__all__ = ["BackboneConfig", "Backbones", "Key", "Shape"]

Shape = tuple[int, int, int]
"""``(C, H, W)``."""

_HEAD = ("name", "input_size")
"""Keys that begin every tag."""


@dataclass(frozen=True)
class Key:
    """What a key of a backbone is besides its type.

    Tags, hashes of caches, ``meta.json`` and errors follow from the fields of ``BackboneConfig``. A field without a
    ``Key`` decides features, and a tag has a short hash of its value.

    Attributes:
        short: what a tag says of a value that is not the default; empty for nothing.
        decides: features depend on the value itself, rather than on what it refers to or not at all.
        of_levels: only a backbone with levels takes the key.
    """

    short: Callable[[Any], str]
    decides: bool = True
    of_levels: bool = False


class BackboneConfig(Model):
    """A backbone at an input size."""

    name: Name = Field(description="name of the backbone, with its weight tag")
    input_size: int = Field(256, ge=32, description="side of the square input in pixels")
    levels: Annotated[tuple[int, ...] | None, Key(lambda levels: "l" + "".join(map(str, levels)), of_levels=True)] = (
        Field(None, min_length=1, description="levels, fine to coarse, by default the backbone's own")
    )
    scales: Annotated[tuple[int, ...] | None, Key(lambda scales: "s" + ".".join(map(str, scales)), of_levels=True)] = (
        Field(
            None, min_length=1, description="divisors of the input's side: the levels are taken at each of these sizes"
        )
    )
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bilinear_aligned", "bicubic_aligned"] | None, Key(str, of_levels=True)
    ] = Field(None, description="how the input is scaled, by default the backbone's own")
    padding: Annotated[Literal["zeros", "reflect"], Key(str, of_levels=True)] = Field(
        "zeros", description="of all convolutions"
    )
    rotations: Annotated[int, Key("r{}".format)] = Field(
        0, ge=0, description="rotated views of each image, for methods that take views"
    )
    pooled: Annotated[bool, Key(lambda _: "pooled", of_levels=True)] = Field(
        False, description="keep the global average of each level only"
    )
    image: Annotated[bool, Key(lambda _: "image")] = Field(
        False, description="keep the normalized image too, for methods that read it"
    )
    frozen: Annotated[bool, Key(lambda _: "tuned", of_levels=True)] = Field(
        True, description="false: the method trains the network itself, from these weights, on the normalized image"
    )
    online: Annotated[bool, Key(lambda _: "online", decides=False)] = Field(
        False, description="compute features whenever they are read, for sets too large to cache"
    )
    weights: Annotated[HomePath, Key(lambda weights: "random" if weights == "random" else "", decides=False)] = Field(
        "default", description="default, package, hub, random, or the path of a weights file"
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
        """What a field is besides its type."""
        declared = (found for found in cls.model_fields[field].metadata if isinstance(found, Key))
        return next(declared, Key(lambda value: _short_hash(field, value)))

    @property
    def tag(self) -> str:
        """Name in paths: ``name@size``, and a part for each other key that is not the default."""
        return "-".join([f"{self.name}@{self.input_size}", *self.tag_parts.values()])

    @property
    def tag_parts(self) -> dict[str, str]:
        """Parts of the tag after ``name@size``, by key."""
        parts = {name: self.key(name).short(value) for name, value in self._given.items()}
        return {name: part for name, part in parts.items() if part}

    @property
    def _given(self) -> dict[str, Any]:
        """Values that are not the default, of all keys but those that begin the tag."""
        defaults = {
            name: field.get_default(call_default_factory=True) for name, field in type(self).model_fields.items()
        }
        return {name: value for name, value in self if name not in _HEAD and value != defaults[name]}

    @property
    def described(self) -> Backbone:
        """Description of the backbone.

        Raises:
            NfbenchError: there is no such backbone; names the nearest one.
        """
        return find_backbone(self.name)

    def resolved(self) -> Self:
        """With the description's values of all keys that leave them to the backbone."""
        described = self.described
        found: dict[str, Any] = {"image": self.stores_image}
        if described.taps:
            found |= {name: getattr(described, name, None) for name, value in self if value is None}
        if self.weights == "default" or not described.taps:
            found["weights"] = described.weights
        return self.model_copy(update=found)

    @property
    def stores_image(self) -> bool:
        """Whether the normalized image is kept: on request, and where there are no levels to keep."""
        return self.image or not self.frozen or not self.described.taps

    @property
    def image_shape(self) -> Shape | None:
        """Shape of the normalized image, None where it is not kept."""
        return (3, self.input_size, self.input_size) if self.stores_image else None

    @property
    def level_shapes(self) -> dict[str, Shape]:
        """Shape of each level that is kept, by the name of its file; the image is none.

        Raises:
            NfbenchError: as for ``network_shapes``.
        """
        shapes = self.network_shapes
        return shapes if self.frozen else {}

    @property
    def network_shapes(self) -> dict[str, Shape]:
        """Shape of each level that the network makes at each scale.

        Raises:
            NfbenchError: the backbone does not take these keys: unknown levels, an input size, or keys for levels where
                it has none.
        """
        described = self.described
        if not described.taps:
            self._refuse_keys_of_levels()
        if not self.frozen and (self.pooled or self.rotations):
            key = "pooled" if self.pooled else "rotations"
            raise NfbenchError(f"backbone '{self.name}': '{key}' and 'frozen: false' exclude each other")
        levels, scales = self.levels or described.levels, self.scales or described.scales
        shapes = described.shapes(self.input_size, levels, scales)
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
"""Several backbones; a name alone is a backbone with its own defaults."""
