"""Synthetic runs of experiments over all official categories, with the outputs of each method; nothing was measured."""

from collections.abc import Iterable
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nfbench.blocks.method import Method
from nfbench.config import Bench, VariantConfig
from nfbench.core.provenance import file_sha256
from nfbench.core.registry import exported
from nfbench.datasets._manifest import Entry, build_manifest, read_manifest, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.figures._base import DrawnRun
from nfbench.metrics import known_metrics
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.plan.specs import StudySpec
from nfbench.results.artifacts import write_representations
from nfbench.results.files import Bin, DetectedRegion, MeanIou, Quantile, write_rows
from nfbench.results.record import CellRecord, RunRecord, Selection
from nfbench.results.supposed import has_maps, official_cells
from nfbench.training.record import AnomaliesRecord, SearchRecord
from tests.made_up import made_up_record, made_up_specs, save_examples, write_listing
from tests.whole import FILES, REPRESENTATIONS, made_up_study

_EPOCHS = (1, 2)
_SIZE = 32


class Official:
    """Makes the runs of experiments; all show the same few images, and runs of like methods share their files.

    Args:
        folder: an empty folder.
        bench: configuration and experiments.
    """

    def __init__(self, folder: Path, bench: Bench) -> None:
        self.folder, self.bench, self.paths = folder, bench, Paths(folder / "results")
        self.rng = np.random.default_rng(0)
        self.studies: dict[Path, StudySpec] = {}

    def runs(self, experiment: str, metrics: Iterable[str]) -> list[DrawnRun]:
        """The runs of all cells of an experiment, with those of ``metrics`` that their methods have."""
        chosen = set(metrics)
        return [self._run(cell, chosen) for cell in official_cells(self.bench, experiment)]

    def _run(self, cell: Cell, metrics: set[str]) -> DrawnRun:
        variant = self.bench.variant(cell.method)
        method: type[Method] = exported("nfbench.methods", variant.method, "METHOD")
        localizes = has_maps(self.bench, cell.method)
        has_latents, has_likelihoods = _has_latents(method), _overrides(method, "position_log_likelihoods")
        found = {
            name: float(self.rng.uniform(0.4, 1))
            for name in sorted(metrics)
            for named in [known_metrics()[name]]
            if (method.transductive or not named.transductive) and (has_latents or not named.metric.needs_latents)
            if (self._has_masks(cell.dataset) and localizes) or not named.metric.needs_masks
        }
        title = variant.title or method.title
        words = {"variant_of": variant.method, "method_title": method.title, "title": title}
        update: dict[str, Any] = {
            "cell": CellRecord(**vars(cell), **words),
            "settings": {**self._record.settings, **variant.settings},
            "by_epoch": dict.fromkeys(_EPOCHS, found),
            "selections": {
                name: Selection(epoch=dict.fromkeys(found, 2) if name == "oracle" else 2, metrics=found)
                for name in ("last", "val", "oracle")
            },
            "data": self._record.data.model_copy(update={"anomalies": self._anomalies(variant)}),
        }
        if not has_latents:
            update["segmentation"] = self._record.segmentation.model_copy(update={"false_alarms": {}})
        if variant.search:
            update |= {"search": _search(variant, cell), "specs": self._specs_with_study(cell)}
        has_positions = has_likelihoods or _overrides(method, "representations")
        left = self._left[localizes, has_latents, has_positions, hasattr(method, "predicted_variances")]
        own, trained = (self._link(left, one) for one in (cell, cell.trained))
        return DrawnRun(cell, self._record.model_copy(update=update), own, trained, self.paths.study_of(cell))

    def _has_masks(self, dataset: str) -> bool:
        members = self.bench.dataset(dataset).union or {dataset: ()}
        return all(self._reader(member).has_masks for member in members)

    def _reader(self, dataset: str) -> Any:
        return exported("nfbench.datasets", self.bench.dataset(dataset).dataset, "DATASET")

    def _anomalies(self, variant: VariantConfig) -> AnomaliesRecord | None:
        asked = variant.anomalies
        if asked is None:
            return None
        real = [entry.image for entry in self._entries if entry.label][: asked.real]
        return AnomaliesRecord(generator=asked.generator, views=1, online=False, repeats=1, real=real)

    def _specs_with_study(self, cell: Cell) -> Any:
        path = self.paths.study_of(cell)
        if path not in self.studies:
            self.studies[path] = made_up_study(self.paths, cell)
        return self._record.specs.model_copy(update={"study": self.studies[path]})

    def _link(self, left: Path, cell: Cell) -> Path:
        """A folder of a run's own, with the files of all like it."""
        folder = self.paths.run_record(cell).parent
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(left)
        return folder

    @cached_property
    def _record(self) -> RunRecord:
        """The common parts of all runs."""
        cell = Cell("one-class", "mvtec_ad", "bottle", "fastflow", f"resnet18.tv_in1k@{_SIZE}", 0)
        specs = made_up_specs(cell, cell.method, self.paths)
        record = made_up_record(cell, cell.method, cell.method, {2: {}}, specs)
        backbone = record.features.recipe.backbone.model_copy(update={"input_size": _SIZE})
        recipe = record.features.recipe.model_copy(update={"backbone": backbone})
        manifest = {"manifest": str(self._manifest), "manifest_sha256": file_sha256(self._manifest)}
        changed = {
            "data": record.data.model_copy(update=manifest),
            "features": record.features.model_copy(update={"recipe": recipe}),
            "segmentation": record.segmentation.model_copy(
                update={
                    "thresholds": {"miou_oracle": 1.0, "miou_nfa_oracle": -1.0, "fair": 0.5},
                    "false_alarms": {"nfa": None},
                }
            ),
        }
        return record.model_copy(update=changed)

    @cached_property
    def _manifest(self) -> Path:
        for kind, count in {"train/good": 2, "test/good": 2, "test/dent": 11, "ground_truth/dent": 11}.items():
            (folder := self.folder / "images" / "part" / kind).mkdir(parents=True)
            for number in range(count):
                mask, shape = kind.startswith("ground"), (_SIZE, _SIZE, 3)
                pixels = self.rng.integers(0, 255, shape, dtype=np.uint8)
                blob = np.pad(np.full((8, 8), 255, np.uint8), 12)
                Image.fromarray(blob if mask else pixels).save(folder / f"{number:03}{'_mask' * mask}.png")
        path = self.folder / "manifest.csv"
        write_manifest(path, build_manifest(DATASET.samples(self.folder / "images", "part")))
        return path

    @cached_property
    def _entries(self) -> list[Entry]:
        return [entry for entry in read_manifest(self._manifest) if entry.split == "test"]

    @cached_property
    def _left(self) -> dict[tuple[bool, bool, bool, bool], Path]:
        """What runs leave, by whether their methods make maps, have white latents, represent positions, predict
        variances.
        """
        normal, other = (number for number, entry in enumerate(self._entries) if not entry.label)
        index = np.array([normal, next(n for n, entry in enumerate(self._entries) if entry.label), other])
        maps = np.linspace(0, 1, 3 * 64, dtype=np.float32).reshape(3, 8, 8)
        folders = {}
        for key in product((True, False), repeat=4):
            localizes, has_latents, has_positions, has_variances = key
            folder = folders[key] = self.folder / "-".join(map(str, key))
            folder.mkdir()
            absent = [
                *([] if localizes else [MeanIou]),
                *([] if has_latents else [Quantile, DetectedRegion]),
                *([] if has_positions else [Bin]),
            ]
            for kind, rows in FILES.items():
                kept = [] if kind in absent else rows
                if kind is MeanIou and localizes and not has_latents:
                    kept = [row for row in rows if row[0] == "score"]
                write_rows(kind, folder, kept)
            more = {"nfa": 1 - 2 * maps} if has_latents else {}
            more |= {"variances": 0.1 + maps} if has_variances else {}
            more |= {"maps": maps} if localizes else {}
            save_examples(folder, index, np.arange(3) == 2, **more)
            write_representations(folder, REPRESENTATIONS if has_positions else [])
            for name in ("run.json", "training.json"):
                write_listing(folder / name)
        return folders


def _overrides(method: type[Method], member: str) -> bool:
    return getattr(method, member) is not getattr(Method, member)


def _has_latents(method: type[Method]) -> bool:
    return _overrides(method, "latent_shapes") and not method.takes_class


def _search(variant: VariantConfig, cell: Cell) -> SearchRecord:
    """A search whose best backbone changes from category to category."""
    tags = [backbone.tag for backbone in variant.searched.backbones]
    return SearchRecord(
        objective=variant.searched.objective, metric=variant.searched.metric, trial=0, value=0.5,
        chosen=tags[len(cell.category) % len(tags)] == cell.backbone, settings={"lr": 0.001},
        trials=dict.fromkeys(("complete", "pruned", "failed"), 1), seconds=1.0, validation=[],
    )  # fmt: skip
