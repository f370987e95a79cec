"""Runs of an experiment, derived from its grid: what its tables and figures can show."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from nfbench.config.backbone import BackboneConfig
from nfbench.config.checks import Known
from nfbench.config.grid import GridBlock
from nfbench.core.registry import nearest

__all__ = ["Runs", "unknown"]


@dataclass(frozen=True)
class Runs:
    """Runs of an experiment, derived from its grid."""

    grid: tuple[GridBlock, ...]
    known: Known

    @cached_property
    def settings(self) -> list[str]:
        """Settings of all runs."""
        return list(dict.fromkeys(block.setting for block in self.grid))

    @cached_property
    def datasets(self) -> list[str]:
        """Datasets of all runs."""
        return list(dict.fromkeys(dataset for block in self.grid for dataset in block.datasets))

    @cached_property
    def methods(self) -> list[str]:
        """Methods and variants of all runs."""
        return list(dict.fromkeys(method for block in self.grid for method in block.methods))

    @cached_property
    def plain_methods(self) -> set[str]:
        """Methods of all runs; each variant counts as its method."""
        return {self.known.variants[m].method if m in self.known.variants else m for m in self.methods}

    @cached_property
    def backbones(self) -> list[BackboneConfig]:
        """Backbones of all runs."""
        return [backbone for block in self.grid for backbone in block.backbones]

    @cached_property
    def conditions(self) -> list[str]:
        """Conditions of all runs, except that of unchanged images."""
        return list(dict.fromkeys(name for block in self.grid for name in block.conditions if name))

    def of(self, setting: str | None) -> "Runs":
        """Return the runs of one setting; all runs for None."""
        return Runs(tuple(block for block in self.grid if setting in (None, block.setting)), self.known)

    def of_method(self, method: str) -> "Runs":
        """Return the runs of one method or variant."""
        return Runs(
            tuple(block.model_copy(update={"methods": (method,)}) for block in self.grid if method in block.methods),
            self.known,
        )

    @cached_property
    def printed_settings(self) -> frozenset[str]:
        """Settings as published tables name them, with the number of real anomalies in training."""
        found = set()
        for block in self.grid:
            for method in block.methods:
                variant = self.known.variants.get(method)
                real = variant.anomalies.real if variant and variant.anomalies else 0
                found.add(f"supervised-{real}" if block.setting == "few-anomaly" else block.setting)
        return frozenset(found)


def unknown(key: str, kind: str, asked: Collection[str], known: Collection[str]) -> Iterator[str]:
    """Yield a fault for each unknown name, with the nearest known one."""
    for name in asked:
        if name not in known:
            yield f"'{key}': no {kind} '{name}'{nearest(name, known)}"
