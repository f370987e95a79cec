"""The registry of sources in ``sources.yaml``: where datasets come from and what they must contain."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config.validation import Model, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.datasets._base import Counts, Dataset

__all__ = ["Archive", "FetchedDataset", "Source", "find_source", "read_sources", "record_path"]

_UNPACKED_RATIO = 10


class Archive(Model):
    """One file to download."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="file name")
    urls: tuple[str, ...] = Field((), description="mirrors, in order of preference")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="published SHA-256")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="published MD5, if there is no SHA-256")
    size: int | None = Field(None, ge=1, description="published size in bytes")
    unpacked: int | None = Field(None, ge=1, description="maximum size in bytes after unpacking")

    @property
    def checksum(self) -> tuple[str, str] | None:
        """Algorithm and published checksum; None if none is published."""
        if self.sha256:
            return "sha256", self.sha256
        return ("md5", self.md5) if self.md5 else None

    def expected(self, known: str | None) -> tuple[str, str] | None:
        """Returns algorithm and checksum to verify: the published one, else ``known``, the first download's SHA-256."""
        return self.checksum or (("sha256", known) if known else None)

    def unpacked_limit(self, size: int) -> int:
        """Returns the maximum size in bytes after unpacking an archive of ``size`` bytes."""
        return self.unpacked or _UNPACKED_RATIO * size


class Source(Model):
    """Origin of a dataset: licence, citation, downloads and official numbers."""

    licence: str = Field(description="licence of the images")
    citation: str = Field(description="paper to cite")
    homepage: str = Field(description="page of the dataset")
    access: Literal["open", "manual"] = Field(description="'open', or 'manual' if it requires a form or a login")
    instructions: str = Field("", description="how to get the dataset if access is manual")
    archives: tuple[Archive, ...] = Field(min_length=1, description="files to download")
    counts: dict[str, Counts] = Field(default_factory=dict, description="official numbers of images by category")
    counts_from: str = Field("", description="source of the counts")
    facts: dict[str, int] = Field(default_factory=dict, description="other official numbers to compare with the disk")
    facts_from: str = Field("", description="source of the facts")

    @model_validator(mode="after")
    def _says_how(self) -> "Source":
        if self.access == "open" and not all(archive.urls for archive in self.archives):
            raise PydanticCustomError("no_urls", "'access' is open, but an archive has no 'urls'")
        if self.access == "manual" and not self.instructions:
            raise PydanticCustomError("no_instructions", "'access' is manual, but 'instructions' are missing")
        return self


@cache
def read_sources() -> dict[str, Source]:
    """Reads all sources, by reader name.

    Raises:
        NfbenchError: a key or value of the file is wrong.
    """
    path = files("nfbench.datasets").joinpath("sources.yaml")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: validate(Source, value, f"sources.yaml, {name}") for name, value in values.items()}


def record_path(name: str, data_root: Path) -> Path:
    """Returns the path of the record of a fetched dataset."""
    return data_root / ".nfbench" / f"{name}.json"


def find_source(name: str) -> Source:
    """Returns the source of a dataset; the error suggests the nearest name."""
    sources = read_sources()
    if name not in sources:
        raise NfbenchError(f"no download source is registered for dataset '{name}'{nearest(name, sources)}")
    return sources[name]


class FetchedDataset(Dataset):
    """A dataset that takes its licence, citation and source from the registry.

    ``name`` in ``class Btad(FetchedDataset, name="btad")`` is the key in the registry and the name of the reader.
    """

    def __init_subclass__(cls, *, name: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        found = find_source(name)
        cls.name, cls.licence, cls.citation, cls.source = name, found.licence, found.citation, found.homepage
