"""Checks that methods, readers, categories and backbones named in the configuration exist."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from nfbench.config.backbone import BackboneConfig
from nfbench.config.grid import AvailableAmong, Categories, DatasetConfig, GridBlock, VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import exported, nearest, plugin_names

__all__ = ["Known", "backbone_faults", "dataset_faults", "grid_faults", "official_categories", "variant_faults"]

_WEIGHTS = ("default", "package", "hub", "random")


@dataclass(frozen=True)
class Known:
    """Names that all files define together.

    Attributes:
        datasets, variants: definitions by name.
        unread: names of datasets and variants in files with faults; only their names are known.
    """

    datasets: Mapping[str, DatasetConfig]
    variants: Mapping[str, VariantConfig]
    unread: Set[str] = frozenset()

    def method_fault(self, name: str) -> str:
        """Return an error if no method or variant has this name, else an empty string."""
        known = {*self.variants, *plugin_names("nfbench.methods")}
        if name in known or name in self.unread:
            return ""
        return f"no method or variant '{name}'{nearest(name, known)}"

    def dataset_fault(self, name: str) -> str:
        """Return an error if no dataset has this name, else an empty string."""
        known = {*self.datasets, *plugin_names("nfbench.datasets")}
        if name in known or name in self.unread:
            return ""
        return f"no dataset '{name}'{nearest(name, known)}"

    def reader_of(self, name: str) -> str:
        """Return the name of a dataset's reader; empty for unions and unknown datasets."""
        readers = plugin_names("nfbench.datasets")
        dataset = self.datasets.get(name)
        reader = name if dataset is None else "" if dataset.union else dataset.dataset
        return reader if reader in readers else ""


def official_categories(known: Known, dataset: str) -> tuple[str, ...]:
    """Return the categories that a dataset can have; none if each folder is a category."""
    reader = known.reader_of(dataset)
    return exported("nfbench.datasets", reader, "DATASET").categories if reader else ()


def backbone_faults(key: str, backbone: BackboneConfig) -> Iterator[str]:
    """Yield faults of a backbone: its name, levels, input size and weights."""
    try:
        _ = backbone.level_shapes
    except NfbenchError as error:
        yield f"'{key}': {error}"
    weights = backbone.weights
    if weights not in _WEIGHTS and not {"/", "."} & set(weights):
        yield f"'{key}.weights': '{weights}' is neither a known word nor a path{nearest(weights, _WEIGHTS)}"


def dataset_faults(key: str, dataset: DatasetConfig, known: Known) -> Iterator[str]:
    """Yield faults of a dataset: its reader, or the datasets and categories of a union."""
    if not dataset.union:
        readers = plugin_names("nfbench.datasets")
        if dataset.dataset not in readers:
            yield f"'{key}.dataset': no reader '{dataset.dataset}'{nearest(dataset.dataset, readers)}"
        return
    for member, categories in dataset.union.items():
        if member in known.datasets and known.datasets[member].union:
            yield f"'{key}.union': '{member}' is a union itself; list its datasets instead"
        else:
            yield from _category_faults(f"{key}.union", member, categories, known)


def variant_faults(key: str, variant: VariantConfig) -> Iterator[str]:
    """Yield faults of a variant: its method and the backbones of its search."""
    methods = plugin_names("nfbench.methods")
    if variant.method not in methods:
        yield f"'{key}.method': no method '{variant.method}'{nearest(variant.method, methods)}"
    for number, backbone in enumerate(variant.search.backbones if variant.search else ()):
        yield from backbone_faults(f"{key}.search.backbones.{number}", backbone)


def grid_faults(key: str, block: GridBlock, known: Known) -> Iterator[str]:
    """Yield faults of a block of cells: its methods, backbones, datasets and categories."""
    for method in block.methods:
        if fault := known.method_fault(method):
            yield f"'{key}.methods': {fault}"
    for number, backbone in enumerate(block.backbones):
        yield from backbone_faults(f"{key}.backbones.{number}", backbone)
    for dataset, categories in block.datasets.items():
        yield from _category_faults(f"{key}.datasets", dataset, categories, known)
    yield from _condition_faults(key, block, known)


def _condition_faults(key: str, block: GridBlock, known: Known) -> Iterator[str]:
    """Yield variants whose training images cannot be changed: those with anomalies or a search of their own."""
    for axis in [name for name in ("shots", "contamination") if getattr(block, name)]:
        for method in block.methods:
            variant = known.variants.get(method)
            reason = variant and (("anomalies" if variant.anomalies else "") or ("search" if variant.search else ""))
            if reason:
                yield (
                    f"'{key}.{axis}': variant '{method}' has '{reason}', which uses all normal training images; put it "
                    f"into a block without '{axis}'"
                )


def _category_faults(key: str, dataset: str, categories: Categories, known: Known) -> Iterator[str]:
    if fault := known.dataset_fault(dataset):
        yield f"'{key}': {fault}"
        return
    official = official_categories(known, dataset)
    named = categories.available if isinstance(categories, AvailableAmong) else categories
    for category in () if isinstance(named, str) or not official else named:
        if category not in official:
            yield f"'{key}.{dataset}': '{dataset}' has no category '{category}'{nearest(category, official)}"
