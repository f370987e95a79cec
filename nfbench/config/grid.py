"""What a cell is made of: datasets, variants of methods, backbones, and blocks of all of them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import Backbones
from nfbench.config.names import CategoryName, HomePath, Name, Title
from nfbench.config.reading import Typed
from nfbench.config.search import SearchConfig
from nfbench.config.validation import Model, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest, plugin_literal, plugin_names

__all__ = [
    "AnomaliesConfig",
    "AvailableAmong",
    "Categories",
    "DatasetConfig",
    "Datasets",
    "GridBlock",
    "Setting",
    "VariantConfig",
    "Variants",
]

_GENERATORS = "nfbench.anomalies"
_PSEUDO_VIEW = re.compile(r"pseudo-(?P<generator>[a-z0-9_]+?)-k(?P<views>\d+)(-real(?P<real>\d+)-seed(?P<seed>\d+))?")

Setting = Literal["one-class", "unified", "few-anomaly"]


class AvailableAmong(Model):
    """Categories that a block takes where they are found on disk, and leaves out where not."""

    available: tuple[CategoryName, ...] = Field(min_length=1, description="categories to take where they are on disk")


def _form(value: Any) -> str | None:
    if value == "available":
        return "<word>"
    if isinstance(value, Mapping | AvailableAmong):
        return "<among>"
    return "<list>" if isinstance(value, list | tuple) else None


Categories = Annotated[
    Annotated[Literal["available"], Tag("<word>")]
    | Annotated[AvailableAmong, Tag("<among>")]
    | Annotated[tuple[CategoryName, ...], Tag("<list>")],
    Discriminator(
        _form,
        custom_error_type="categories",
        custom_error_message="takes a list of categories, 'available', or {available: [...]}",
    ),
]
"""Of a dataset: all that are on disk, those of a list that are, or those of a list."""


class DatasetConfig(Model):
    """A dataset under a name of its own: a folder of the user's, a stated subset of a known dataset, or a union."""

    union: dict[Name, Categories] | None = Field(
        None, min_length=1, description="categories by dataset, joined to one dataset; excludes the other keys"
    )
    dataset: Name = Field(
        "folder",
        description="reader, such as mvtec_ad, or folder for any MVTec layout; a dataset named like a reader has it",
    )
    root: HomePath | None = Field(None, description="folder with the categories; by default <data_root>/<dataset>")
    stride: int = Field(1, ge=1, description="of videos, take every n-th frame only, in training and in test")
    max_train: int | None = Field(
        None, ge=1, description="keep at most this many normal training images per category; all validation images stay"
    )
    max_test_normal: int | None = Field(
        None, ge=1, description="keep at most this many normal test images per category"
    )
    max_test_anomalous: int | None = Field(
        None, ge=1, description="keep at most this many anomalous test images per category"
    )

    @model_validator(mode="after")
    def _union_is_made_of_others(self) -> "DatasetConfig":
        others = {name: field.default for name, field in type(self).model_fields.items() if name != "union"}
        if self.union and any(getattr(self, name) != default for name, default in others.items()):
            raise PydanticCustomError("union_alone", "'union' excludes the other keys; give them to its datasets")
        return self

    @property
    def is_subset(self) -> bool:
        """Whether images of the official split are left out."""
        return self.stride > 1 or any((self.max_train, self.max_test_normal, self.max_test_anomalous))


def _is_generator(name: str) -> str:
    names = plugin_names(_GENERATORS)
    if name not in names:
        text = f"unknown generator '{name}'{nearest(name, names)}"
        raise PydanticCustomError("unknown_generator", "{text}", {"text": text})
    return name


class AnomaliesConfig(Model):
    """Anomalous images that a method is trained with, beside or instead of the normal ones."""

    generator: Annotated[str, AfterValidator(_is_generator)] | None = Field(
        None,
        description="pseudo-anomalies: SANFlow's blends and scars (blend), CutPaste (cutpaste), BGAD's of real "
        "anomalies (rpag), or another module of nfbench/anomalies",
    )
    views: int = Field(8, ge=1, description="seeded variants of each image that are cached")
    online: bool = Field(False, description="make a new variant whenever an image is asked for, instead of the cache")
    real: int = Field(
        0,
        ge=0,
        description="anomalous test images, chosen by seed, that the method learns from and is not tested on; only in "
        "the setting few-anomaly",
    )
    repeats: int = Field(
        5, ge=1, description="how many times an epoch has each real anomaly, and a pseudo-anomaly of it"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "AnomaliesConfig":
        if self.needs_real and not self.real:
            given = {"generator": self.generator}
            text = "generator {generator} makes its anomalies of real ones; set 'real'"
            raise PydanticCustomError("no_real", text, given)
        if self.generator is None and not self.real:
            raise PydanticCustomError("no_anomalies", "give a 'generator', a number of 'real' anomalies, or both")
        return self

    @property
    def needs_real(self) -> bool:
        """Whether the pseudo-anomalies are made of real ones."""
        return self.generator is not None and bool(plugin_literal(_GENERATORS, self.generator, "NEEDS_REAL"))

    def view(self, seed: int) -> str | None:
        """Name of the cached view of pseudo-anomalies, with the seed where they are made of that seed's anomalies."""
        if self.generator is None or self.online:
            return None
        of_seed = f"-real{self.real}-seed{seed}" if self.needs_real else ""
        return f"pseudo-{self.generator}-k{self.views}{of_seed}"

    @classmethod
    def of_view(cls, view: str) -> tuple["AnomaliesConfig", int] | None:
        """What a view of pseudo-anomalies is made of, by its name, and its seed; None for other views.

        Raises:
            NfbenchError: the name is not that of a view that can be made.
        """
        found = _PSEUDO_VIEW.fullmatch(view)
        if found is None:
            return None
        values = {"generator": found["generator"], "views": int(found["views"]), "real": int(found["real"] or 0)}
        return validate(cls, values, f"view {view}"), int(found["seed"] or 0)


class VariantConfig(Model):
    """A method with named overrides of its settings."""

    method: Name = Field(description="name of the method")
    settings: Annotated[dict[str, Any], Typed] = Field(
        default_factory=dict, description="overrides of the method's settings"
    )
    anomalies: AnomaliesConfig | None = Field(None, description="anomalous images to train with, if any")
    search: SearchConfig | None = Field(
        None, description="find further settings, and the backbone, by a search in each category"
    )
    title: Title | None = Field(
        None, description="name in tables; by default the method's title and the variant's name"
    )

    @property
    def searched(self) -> SearchConfig:
        """The search of a variant that has one.

        Raises:
            NfbenchError: it has none.
        """
        if self.search is None:
            raise NfbenchError(f"a variant of method '{self.method}' has no 'search'")
        return self.search


def _keep_readers(datasets: dict[str, DatasetConfig]) -> dict[str, DatasetConfig]:
    """A dataset that has the name of a reader is read by it."""
    kept = dict(datasets)
    for name in kept.keys() & set(plugin_names("nfbench.datasets")):
        other = "a union" if kept[name].union else f"read as '{kept[name].dataset}'"
        if kept[name].union or ("dataset" in kept[name].model_fields_set and kept[name].dataset != name):
            message = f"'{name}' is the name of a reader, and here {other}; give the dataset a name of its own"
            raise PydanticCustomError("reader", "{message}", {"message": message})
        kept[name] = kept[name].model_copy(update={"dataset": name})
    return kept


def _keep_methods(variants: dict[str, VariantConfig]) -> dict[str, VariantConfig]:
    """A variant that has the name of a method is that method as it is."""
    for name in sorted(variants.keys() & set(plugin_names("nfbench.methods"))):
        if variants[name] != VariantConfig(method=name):
            message = f"'{name}' is the name of a method; give the variant a name of its own, such as {name}-own"
            raise PydanticCustomError("method", "{message}", {"message": message})
    return variants


Datasets = Annotated[dict[Name, DatasetConfig], AfterValidator(_keep_readers)]
"""Datasets by name."""

Variants = Annotated[dict[Name, VariantConfig], AfterValidator(_keep_methods)]
"""Variants by name."""


class GridBlock(Model):
    """A full product of cells; in the setting unified, one training for all categories of a dataset."""

    setting: Setting = Field("one-class", description="one-class, unified or few-anomaly")
    methods: tuple[Name, ...] = Field(min_length=1, description="methods and variants")
    backbones: Backbones = Field(min_length=1, description="backbones")
    datasets: dict[Name, Categories] = Field(
        min_length=1,
        description="categories by dataset; 'available' takes those found on disk, {available: [...]} those of the "
        "list that are found on disk",
    )
