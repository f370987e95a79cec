"""Synthetic run records of an experiment with everything that a report reads; no number was measured."""

import json
import zlib
from collections.abc import Iterable, Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from nfbench.cli.load import load_plan
from nfbench.core.provenance import file_sha256
from nfbench.core.seals import known_files, seal_of, write_sealed
from nfbench.datasets._manifest import Entry, write_manifest
from nfbench.datasets.mvtec_ad import DATASET
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.plan.plan import Plan
from nfbench.plan.specs import EvaluateSpec, ExtractSpec, ScoreSpec, StudySpec, TrainSpec
from nfbench.results.files import Epoch, ImageScore, Row, file_of, record_of, write_rows
from nfbench.results.record import RunRecord, SearchRecord, SpecsRecord, write_record

METRICS = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "pixel_aupro", "miou_fair", "miou_nfa")
TITLES = {"uflow": "U-Flow", "fastflow": "FastFlow", "cflow": "CFLOW-AD", "patchcore": "PatchCore", "padim": "PaDiM"}
EPOCHS = (4, 8, 12, 16)
_N_IMAGES = 24


def hash_of(path: Path) -> str:
    return file_sha256(path) if path.is_file() else "0" * 64


@dataclass
class MadeUp:
    """An experiment 'made_up' in a folder of its own, with its runs.

    Attributes:
        folder: folder of the checkout.
        methods: variants by name, with the methods behind them.
        categories, backbones, seeds: the rest of the grid.
        skill: points of AUROC by method, beside chance.
        titles: titles of the variants, by default the method's.
        searches: searches of variants that have one; their best backbones come in turn from category to category.
        images: whether each run has maps of examples.
        n_pictures: number of test images of each category that are on disk, if ``images``.
    """

    folder: Path
    methods: dict[str, str]
    categories: tuple[str, ...] = DATASET.categories
    backbones: tuple[str, ...] = ("resnet18.tv_in1k",)
    seeds: int = 2
    skill: dict[str, float] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    searches: dict[str, dict] = field(default_factory=dict)
    images: bool = False
    n_pictures: int = 6

    @property
    def paths(self) -> Paths:
        return Paths(self.folder / "results")

    @property
    def cells(self) -> list[Cell]:
        return [
            Cell("one-class", "mvtec_ad", category, method, f"{backbone}@256", seed)
            for category in self.categories
            for backbone in self.backbones
            for method in self.methods
            for seed in range(self.seeds)
        ]

    def write(self) -> "MadeUp":
        (self.folder / "workflow" / "experiments").mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(
            yaml.safe_dump({"experiment": "made_up", "results_root": str(self.paths.root)})
        )
        self.experiment_file.write_text(yaml.safe_dump(self._experiment()))
        for category in self.categories:
            self._write_manifest(category)
        for cell in self.cells:
            self._write_run(cell)
        return self

    @property
    def experiment_file(self) -> Path:
        return self.folder / "workflow" / "experiments" / "made_up.yaml"

    @cached_property
    def plan(self) -> Plan:
        with chdir(self.folder):
            return load_plan()

    def _experiment(self) -> dict:
        tables = {
            "made_up_image_auroc": {"title": "Made up", "metric": "image_auroc",
                                    "published": "uflow_table7_image_auroc"},
            "made_up_pixel_auroc": {"title": "Made up", "metric": "pixel_auroc", "selections": ["last", "oracle"]},
            "made_up_methods": {"kind": "methods", "title": "Made up", "metrics": ["image_auroc", "pixel_aupro"],
                                "costs": ["train_seconds", "peak_memory_mb"]},
        }  # fmt: skip
        return {
            "title": "Made up, not measured",
            "seeds": self.seeds,
            "variants": {
                name: {"method": method, "title": self.title(name), "search": self.searches.get(name)}
                for name, method in self.methods.items()
                if name != method
            },
            "grid": [
                {"methods": list(self.methods), "backbones": list(self.backbones),
                 "datasets": {"mvtec_ad": list(self.categories)}}
            ],
            "tables": tables,
        }  # fmt: skip

    def title(self, name: str) -> str:
        return self.titles.get(name, name)

    def _write_manifest(self, category: str) -> None:
        rng = np.random.default_rng(zlib.crc32(category.encode()))
        entries = []
        for number in range(_N_IMAGES):
            label = number % 2
            path = self.folder / "images" / category / f"{number:03}.png"
            mask = self.folder / "images" / category / f"{number:03}_mask.png"
            if self.images and number < self.n_pictures:
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.normal(128, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).resize((256, 256)).save(path)
                blob = np.zeros((256, 256), dtype=np.uint8)
                blob[80:160, 60:150] = 255 * label
                Image.fromarray(blob).save(mask)
            entries.append(
                Entry("test", label, "dent" if label else "good", str(path), str(mask) if label else "", 256, 256,
                      hash_of(path), hash_of(mask) if label else "")
            )  # fmt: skip
        write_manifest(self.manifest(category), entries)

    def manifest(self, category: str) -> Path:
        return Path(self.paths.manifest.format(dataset="mvtec_ad", category=category))

    def _write_run(self, cell: Cell) -> None:
        rng = np.random.default_rng(zlib.crc32(str(cell).encode()))
        level = 0.90 + self.skill.get(cell.method, 0.0) / 100
        ease = np.random.default_rng(zlib.crc32(cell.category.encode())).normal(0, 0.03)
        by_epoch = {
            epoch: {m: float(np.clip(level + ease + rng.normal(0, 0.005), 0, 1)) for m in METRICS} for epoch in EPOCHS
        }
        specs = planned_specs(cell, self.plan)
        record = made_up_record(cell, self.methods[cell.method], self.title(cell.method), by_epoch, specs)
        manifest = self.manifest(cell.category)
        data = record.data.model_copy(update={"manifest": str(manifest), "manifest_sha256": file_sha256(manifest)})
        folder = self.paths.run_record(cell).parent
        folder.mkdir(parents=True, exist_ok=True)
        search = self._search(cell)
        history = ((epoch, 1 / epoch + rng.normal(0, 0.01), -1.2 - 1 / epoch, 1e-3, 1.0) for epoch in range(1, 17))
        write_rows(Epoch, folder, history)
        write_listing(folder / "training.json")
        separation = 2.0 + self.skill.get(cell.method, 0.0) / 5
        labels = np.arange(_N_IMAGES) % 2
        scores = rng.normal(0, 1, _N_IMAGES) + separation * labels
        images = self.folder / "images" / cell.category
        rows = ((str(images / f"{i:03}.png"), labels[i], "x", *[scores[i]] * 4) for i in range(_N_IMAGES))
        write_rows(ImageScore, folder, rows)
        if self.images:
            maps = rng.random((4, 64, 64), dtype=np.float32) * 0.4
            maps[1::2, 20:40, 15:38] += 0.6
            index, suspect = np.array([0, 1, 2, 3]), np.array([False, False, False, True])
            save_examples(folder, index, suspect, maps=maps)
        written = known_files(folder, [path.name for path in folder.iterdir() if path.suffix in (".csv", ".npz")])
        written.pop(file_of(Epoch))
        update = {"data": data, "search": search, "written": written}
        write_record(folder / "run.json", record.model_copy(update=update))

    def _search(self, cell: Cell) -> SearchRecord | None:
        if cell.method not in self.searches:
            return None
        best = self.backbones[self.categories.index(cell.category) % len(self.backbones)]
        objective = self.searches[cell.method].get("objective", "log_likelihood")
        metric = "log_likelihood" if objective == "log_likelihood" else "pixel_auroc"
        return SearchRecord(
            objective=objective, metric=metric, trial=3, value=0.75, chosen=cell.backbone == f"{best}@256",
            settings={"lr": 0.001}, trials={"complete": 20, "pruned": 9, "failed": 1}, seconds=12.5, validation=[],
        )  # fmt: skip


def save_examples(folder: Path, index: Sequence[int], suspect: Sequence[bool], **maps: np.ndarray) -> None:
    """Writes ``examples.npz`` with suspects and without misses."""
    index, suspect = np.array(index), np.array(suspect)
    np.savez_compressed(folder / "examples.npz", index=index, suspect=suspect, miss=suspect & False, **maps)


def write_listing(record: Path) -> None:
    """Write a record that knows the files next to it and nothing else."""
    files = known_files(record.parent, [path.name for path in record.parent.iterdir() if path.suffix != ".json"])
    write_sealed(record, {"written": {name: known.model_dump() for name, known in files.items()}})


def write_known(kind: type[Row], folder: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a file of a run, and a record that knows it."""
    write_rows(kind, folder, rows)
    write_listing(folder / record_of(kind))


def relist(record: Path) -> None:
    """Update a record's hashes of the files next to it."""
    names = [path.name for path in record.parent.iterdir() if path.suffix in (".csv", ".npz")]
    spoil(record, written={name: known.model_dump() for name, known in known_files(record.parent, names).items()})


def planned_specs(cell: Cell, plan: Plan) -> SpecsRecord:
    """Specs of the stages of a run, from a plan."""
    jobs = list(plan.evaluate(cell).chain())
    extracted = {job.spec.features: job.spec for job in jobs if isinstance(job.spec, ExtractSpec)}
    studies = [job.spec for job in jobs if isinstance(job.spec, StudySpec)]
    return SpecsRecord(
        extract=list(extracted.values()),
        study=studies[0] if studies else None,
        train=plan.train(cell.trained).spec,
        score=plan.score(cell).spec,
        evaluate=plan.evaluate(cell).spec,
    )


def made_up_specs(cell: Cell, method: str, paths: Paths) -> SpecsRecord:
    """Specs of the stages of a run."""
    name, _, size = cell.backbone.partition("@")
    backbone, run = {"name": name, "input_size": int(size)}, str(paths.run_record(cell).parent)
    manifest = paths.manifest.format(**vars(cell))
    features = {view: paths.features.format(**vars(cell), view=view) for view in ("train", "test")}
    return SpecsRecord(
        extract=[
            ExtractSpec(manifest=manifest, view=view, backbone=backbone, features=path)
            for view, path in features.items()
        ],
        study=None,
        train=TrainSpec(
            cell=cell, method=method, reader=cell.dataset, backbone=backbone, run=run,
            classes=[{"name": cell.category, "manifest": manifest, "features": features["train"]}],
        ),
        score=ScoreSpec(
            cell=cell, method=method, backbone=backbone, trained=run, manifest=manifest, run=run,
            train_features=features["train"], features=features["test"],
        ),
        evaluate=EvaluateSpec(cell=cell, trained=run, manifest=manifest, run=run),
    )  # fmt: skip


def made_up_record(
    cell: Cell, method: str, title: str, by_epoch: dict[int, dict[str, float]], specs: SpecsRecord
) -> RunRecord:
    """A whole run record with the metrics given."""
    best = {name: max(by_epoch, key=lambda epoch: by_epoch[epoch][name]) for name in by_epoch[max(by_epoch)]}
    made = {
        "nfbench": "0", "commit": "c" * 40, "dirty": False, "python": "3.11", "packages": {"torch": "2"},
        "platform": "Linux", "cpu": "a CPU", "cpu_threads": 2, "gpu": None,
        "device": "cpu", "threads": 1,
    }  # fmt: skip
    last = by_epoch[max(by_epoch)]
    return RunRecord(
        cell={**vars(cell), "variant_of": method, "method_title": TITLES.get(method, method), "title": title},
        settings={"epochs": 16, "image_score": "max"},
        selections={
            "last": {"epoch": max(by_epoch), "metrics": last},
            "val": {"epoch": max(by_epoch), "metrics": last},
            "oracle": {"epoch": best, "metrics": {name: by_epoch[epoch][name] for name, epoch in best.items()}},
        },
        by_epoch=by_epoch,
        segmentation={
            "thresholds": {}, "false_alarms": {}, "threshold_images": {"source": "held out", "n_images": 10},
        },
        data={
            "manifest": "m.csv", "manifest_sha256": "0" * 64, "n_train": 90, "n_val": 10,
            "classes": {cell.category: "0" * 64}, "n_test_normal": 12, "n_test_anomalous": 12,
            "n_regions": 12, "n_defects": 2, "image_side": 900, "resolution": "original", "anomalies": None,
        },
        features={
            "recipe": {
                "backbone": {"name": cell.backbone.partition("@")[0], "levels": [1, 2, 3]}, "mean": [0.5] * 3,
                "std": [0.5] * 3, "level_shapes": {}, "weights_sha256": "a" * 64,
            },
            "train_key": "t" * 64, "test_key": "u" * 64, "pseudo_key": None,
        },
        parameters={"flow": 1000, "total": 1000},
        seconds={"train": 10.0, "score": 1.0},
        images_per_second={"extract": 10.0, "train": 10.0, "score": 10.0},
        peak_memory_mb={"train_host": 500.0},
        contour=0.5,
        specs=specs,
        provenance={
            stage: {**made, "command": f"nfbench {rule} --spec {cell}.json"}
            for stage, rule in (
                ("extract", "extract_features"),
                ("train", "train_flow"),
                ("score", "score_run"),
                ("evaluate", "evaluate_run"),
            )
        },
    )  # fmt: skip


def spoil(path: Path, **changes: object) -> None:
    """Overwrites keys of a record as no stage would, NaN included, and seals it."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({**values, "seal": seal_of(values)}))
