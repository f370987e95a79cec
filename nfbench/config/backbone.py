"""A backbone at an input size, and its name in paths."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from nfbench.config.names import HomePath, Name
from nfbench.config.validation import Model

__all__ = ["BackboneConfig", "Backbones"]


class BackboneConfig(Model):
    """A backbone at an input size."""

    name: Name = Field(description="name of the backbone, with its weight tag")
    input_size: int = Field(256, ge=32, description="side of the square input in pixels")
    levels: tuple[int, ...] | None = Field(
        None, min_length=1, description="levels, fine to coarse, by default the backbone's own"
    )
    scales: tuple[int, ...] | None = Field(
        None, min_length=1, description="divisors of the input's side: the levels are taken at each of these sizes"
    )
    interpolation: Literal["nearest", "bilinear", "bilinear_aligned", "bicubic_aligned"] | None = Field(
        None, description="how the input is scaled, by default the backbone's own"
    )
    padding: Literal["zeros", "reflect"] = Field("zeros", description="of all convolutions")
    rotations: int = Field(0, ge=0, description="rotated views of each image, for methods that take views")
    pooled: bool = Field(False, description="keep the global average of each level only")
    online: bool = Field(False, description="compute features whenever they are read, for sets too large to cache")
    image: bool = Field(False, description="keep the normalized image too, for methods that read it")
    weights: HomePath = Field("default", description="default, package, hub, random, or the path of a weights file")

    @field_validator("levels", "scales")
    @classmethod
    def _come_in_order(cls, numbers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if numbers and list(numbers) != sorted(set(numbers)):
            wanted = ", ".join(map(str, sorted(set(numbers))))
            raise PydanticCustomError("order", "must be in order, each once: [{wanted}]", {"wanted": wanted})
        return numbers

    @property
    def tag(self) -> str:
        """Name in paths: ``name@size``, and whatever is not the backbone's own."""
        parts = [
            "l" + "".join(map(str, self.levels)) if self.levels else "",
            "s" + ".".join(map(str, self.scales)) if self.scales else "",
            self.interpolation or "",
            "reflect" if self.padding == "reflect" else "",
            f"r{self.rotations}" if self.rotations else "",
            "pooled" if self.pooled else "",
            "image" if self.image else "",
            "online" if self.online else "",
            "random" if self.weights == "random" else "",
        ]
        return "-".join([f"{self.name}@{self.input_size}", *filter(None, parts)])


def _by_name(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    return [{"name": item} if isinstance(item, str) else item for item in value]


Backbones = Annotated[
    tuple[BackboneConfig, ...], BeforeValidator(_by_name, json_schema_input_type=tuple[BackboneConfig | str, ...])
]
"""Several backbones; a name alone is a backbone with its own defaults."""
