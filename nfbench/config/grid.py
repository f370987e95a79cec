"""Configuration of cells: datasets, variants of methods, and blocks of the grid."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.backbone import Backbones
from nfbench.config.conditions import ContaminationList, ShiftConfig, ShotsList, conditions_of
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
    """Categories that a block uses if they are on disk and skips otherwise."""

    available: tuple[CategoryName, ...] = Field(min_length=1, description="categories to use if they are on disk")


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
"""Categories of a dataset: all on disk, those of a list that are on disk, or exactly those of a list."""


class DatasetConfig(Model):
    """A user-defined dataset: a folder, a subset of a known dataset, or a union of datasets."""

    union: dict[Name, Categories] | None = Field(
        None, min_length=1, description="categories by dataset, joined into one dataset; excludes all other keys"
    )
    dataset: Name = Field(
        "folder",
        description="reader, such as mvtec_ad, or 'folder' for any folder in MVTec layout; default: the reader of the "
        "dataset's name if there is one",
    )
    root: HomePath | None = Field(None, description="folder with the categories; default: <data_root>/<dataset>")
    stride: int = Field(1, ge=1, description="use only every n-th frame of videos, for training and testing")
    max_train: int | None = Field(
        None,
        ge=1,
        description="keep at most this many normal training images per category; validation images are not affected",
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
            raise PydanticCustomError("union_alone", "'union' excludes all other keys; set them on its datasets")
        return self

    @property
    def is_subset(self) -> bool:
        """Whether the dataset omits images of the official split."""
        return self.stride > 1 or any((self.max_train, self.max_test_normal, self.max_test_anomalous))


def _is_generator(name: str) -> str:
    names = plugin_names(_GENERATORS)
    if name not in names:
        text = f"unknown generator '{name}'{nearest(name, names)}"
        raise PydanticCustomError("unknown_generator", "{text}", {"text": text})
    return name


class AnomaliesConfig(Model):
    """Anomalous images for training, in addition to or instead of the normal ones."""

    generator: Annotated[str, AfterValidator(_is_generator)] | None = Field(
        None,
        description="generator of pseudo-anomalies: 'blend' (SANFlow's blends and scars), 'cutpaste' (CutPaste), "
        "'rpag' (BGAD's, pasted from real anomalies), or another module of nfbench/anomalies",
    )
    views: int = Field(8, ge=1, description="number of pseudo-anomalies to cache per image")
    online: bool = Field(False, description="generate a new pseudo-anomaly each time an image is read; cache none")
    real: int = Field(
        0,
        ge=0,
        description="number of anomalous test images, chosen by seed, that are moved from testing to training; only in "
        "the setting few-anomaly",
    )
    repeats: int = Field(
        5, ge=1, description="number of times that each real anomaly, and a pseudo-anomaly of it, appears in an epoch"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "AnomaliesConfig":
        if self.needs_real and not self.real:
            given = {"generator": self.generator}
            text = "generator {generator} needs real anomalies; set 'real'"
            raise PydanticCustomError("no_real", text, given)
        if self.generator is None and not self.real:
            raise PydanticCustomError("no_anomalies", "set 'generator', the number of 'real' anomalies, or both")
        return self

    @property
    def needs_real(self) -> bool:
        """Whether the generator needs real anomalies."""
        return self.generator is not None and bool(plugin_literal(_GENERATORS, self.generator, "NEEDS_REAL"))

    def view(self, seed: int) -> str | None:
        """Return the name of the cached view of pseudo-anomalies; None if there is no cache.

        The name contains the seed if the generator uses the real anomalies of that seed.
        """
        if self.generator is None or self.online:
            return None
        of_seed = f"-real{self.real}-seed{seed}" if self.needs_real else ""
        return f"pseudo-{self.generator}-k{self.views}{of_seed}"

    @classmethod
    def of_view(cls, view: str) -> tuple["AnomaliesConfig", int] | None:
        """Parse the name of a view of pseudo-anomalies into its configuration and seed; None for other views.

        Raises:
            NfbenchError: the name describes a view that cannot be generated.
        """
        found = _PSEUDO_VIEW.fullmatch(view)
        if found is None:
            return None
        values = {"generator": found["generator"], "views": int(found["views"]), "real": int(found["real"] or 0)}
        return validate(cls, values, f"view {view}"), int(found["seed"] or 0)


class VariantConfig(Model):
    """A method with overridden settings, under a name of its own."""

    method: Name = Field(description="name of the method")
    settings: Annotated[dict[str, Any], Typed] = Field(
        default_factory=dict, description="overrides of the method's settings"
    )
    anomalies: AnomaliesConfig | None = Field(None, description="anomalous images to train with, if any")
    search: SearchConfig | None = Field(
        None, description="search for further settings, and for the backbone, in each category"
    )
    title: Title | None = Field(None, description="name in tables; default: the method's title and the variant's name")

    @property
    def searched(self) -> SearchConfig:
        """The variant's search.

        Raises:
            NfbenchError: the variant has no search.
        """
        if self.search is None:
            raise NfbenchError(f"a variant of method '{self.method}' has no 'search'")
        return self.search


def _keep_readers(datasets: dict[str, DatasetConfig]) -> dict[str, DatasetConfig]:
    """Give each dataset that is named like a reader that reader."""
    kept = dict(datasets)
    for name in kept.keys() & set(plugin_names("nfbench.datasets")):
        other = "a union" if kept[name].union else f"read as '{kept[name].dataset}'"
        if kept[name].union or ("dataset" in kept[name].model_fields_set and kept[name].dataset != name):
            message = f"'{name}' is the name of a reader, but here it is {other}; give the dataset another name"
            raise PydanticCustomError("reader", "{message}", {"message": message})
        kept[name] = kept[name].model_copy(update={"dataset": name})
    return kept


def _keep_methods(variants: dict[str, VariantConfig]) -> dict[str, VariantConfig]:
    """Refuse a variant that is named like a method but differs from it."""
    for name in sorted(variants.keys() & set(plugin_names("nfbench.methods"))):
        if variants[name] != VariantConfig(method=name):
            message = f"'{name}' is the name of a method; give the variant another name, such as {name}-own"
            raise PydanticCustomError("method", "{message}", {"message": message})
    return variants


Datasets = Annotated[dict[Name, DatasetConfig], AfterValidator(_keep_readers)]
"""Datasets by name."""

Variants = Annotated[dict[Name, VariantConfig], AfterValidator(_keep_methods)]
"""Variants by name."""


class GridBlock(Model):
    """A full product of cells. In the setting unified, each dataset has one training for all its categories."""

    setting: Setting = Field("one-class", description="'one-class', 'unified' or 'few-anomaly'")
    methods: tuple[Name, ...] = Field(min_length=1, description="names of methods and variants")
    backbones: Backbones = Field(min_length=1, description="backbones, each a name or a mapping with 'name'")
    datasets: dict[Name, Categories] = Field(
        min_length=1,
        description="categories by dataset: a list, 'available' for all categories on disk, or {available: [...]} for "
        "those of a list that are on disk",
    )
    shots: ShotsList = Field(
        (),
        description="also train on only this many normal images, drawn by seed; a larger set contains a smaller one; "
        "only in the setting one-class",
    )
    contamination: ContaminationList = Field(
        (),
        description="also train with real anomalies among the normal images: number added by number of normal images; "
        "drawn from the test set by seed, which those of the largest ratio leave at all ratios; only in the setting "
        "one-class",
    )
    shift: ShiftConfig | None = Field(None, description="also test on changed images, by axis, at these strengths")

    @model_validator(mode="after")
    def _training_images_are_of_one_class(self) -> "GridBlock":
        asked = [name for name in ("shots", "contamination") if getattr(self, name)]
        if asked and self.setting != "one-class":
            text = (
                f"'{asked[0]}' changes the training images of the setting one-class, not of {self.setting}; remove it"
            )
            raise PydanticCustomError("not_one_class", "{text}", {"text": text})
        return self

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions of its cells; the first one, of unchanged images, is empty."""
        return conditions_of(self.shots, self.contamination, self.shift or ShiftConfig())
