"""Synthetic runs with all possible outputs, for tests over all kinds of tables and figures; nothing was measured."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import build_manifest, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.figures._base import DrawnRun
from nfbench.metrics import known_metrics
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.plan.specs import StudySpec
from nfbench.results.artifacts import write_representations
from nfbench.results.files import Bin, DetectedRegion, Epoch, ImageScore, ImageValue, MeanIou, Quantile, write_rows
from nfbench.scoring.representations import Representation
from nfbench.search.record import BestTrial, StudyDescription, StudyRecord, TrialRecord, write_study
from tests.conftest import make_image_folder
from tests.made_up import made_up_record, made_up_specs, save_examples, write_listing

BACKBONE, SETTINGS = "resnet18.tv_in1k", ("one-class", "unified")
GENERATOR = "blend"
EDGES = np.linspace(-2, 2, 5)
FILES = {
    Epoch: [(1, 3.0, -1.5, 0.1, 1.0), (2, 2.0, -1.2, 0.1, 1.0)],
    ImageScore: [(f"{number}.png", number % 2, "x", *[float(number)] * 4) for number in range(6)],
    ImageValue: [("pixel_aupimo", f"{number}.png", "x", 0.1 * number) for number in (1, 3, 5)],
    DetectedRegion: [("0.png", 0, "nfa", 4, 0, 0, 2, 2, -5.0)],
    MeanIou: [(name, float(x), 0.2, 0.3, 0.4) for name in ("score", "nfa") for x in range(-2, 3)],
    Quantile: [(images, 0, 4, p, p, 1.1 * p) for images in ("training", "test") for p in (0.1, 0.5, 0.9)],
    Bin: [
        (moment, level, group, left, right, 0.25)
        for moment, level, group in product(("before", "after"), (0, 1), ("normal", "anomalous", "learned", "pseudo"))
        for left, right in pairwise(EDGES)
    ],
}
REPRESENTATIONS = [
    Representation(name, level, EDGES + 2, np.stack([EDGES, EDGES**2], 1), EDGES[-2:] / 4, np.repeat("normal", 5))
    for name, level in product(("features", "latents"), (0, 1))
]


def whole_runs(
    folder: Path,
    methods: Sequence[str] = ("fastflow", "uflow"),
    categories: Sequence[str] = ("bottle", "carpet"),
    seeds: int = 2,
    title: str = "",
    conditions: Sequence[str] = ("",),
) -> list[DrawnRun]:
    """Runs of methods in both settings, on images that are there; ``title`` ends the title of each method."""
    paths, runs = Paths(folder / "results"), []
    for category in categories:
        images = make_image_folder(folder / "images", category)
        write_manifest(_manifest(paths, category), build_manifest(DATASET.samples(images, category)))
    for setting, category, method, seed, name in product(SETTINGS, categories, methods, range(seeds), conditions):
        cell = Cell(setting, "mvtec_ad", category, method, f"{BACKBONE}@256", seed, name)
        runs.append(_run(paths, cell, method.title() + title))
    return runs


def _manifest(paths: Paths, category: str) -> Path:
    return Path(paths.manifest.format(dataset="mvtec_ad", category=category))


def _run(paths: Paths, cell: Cell, title: str) -> DrawnRun:
    value = 0.9 + 0.02 * cell.seed + 0.01 * (cell.setting == "unified")
    by_epoch = {epoch: dict.fromkeys(known_metrics(), value) for epoch in (1, 2)}
    study, manifest = made_up_study(paths, cell), _manifest(paths, cell.category)
    specs = made_up_specs(cell, cell.method, paths).model_copy(update={"study": study})
    record = made_up_record(cell, cell.method, title, by_epoch, specs)
    anomalies = {"generator": GENERATOR, "views": 2, "online": False, "repeats": 1, "real": []}
    changes = {
        "segmentation": {
            "thresholds": {"miou_oracle": 1.0, "miou_nfa_oracle": -1.0, "fair": 0.5},
            "false_alarms": {"nfa": {"per_normal_image": 1.0, "images": {}}},
        },
        "data": {"manifest": str(manifest), "manifest_sha256": file_sha256(manifest), "anomalies": anomalies},
        "search": {
            "objective": "validation", "metric": "pixel_auroc", "trial": 0, "value": 0.75, "chosen": True,
            "settings": {"lr": 0.001}, "trials": dict.fromkeys(("complete", "pruned", "failed"), 1), "seconds": 1.0,
            "validation": [],
        },
    }  # fmt: skip
    values = record.model_dump()
    for name, change in changes.items():
        values[name] = {**(values[name] or {}), **change}
    run = paths.run_record(cell).parent
    run.mkdir(parents=True)
    for kind, rows in FILES.items():
        write_rows(kind, run, rows)
    maps = np.linspace(0, 1, 4 * 64, dtype=np.float32).reshape(4, 8, 8)
    index, suspect = np.arange(4), np.arange(4) == 3
    save_examples(run, index, suspect, maps=maps, nfa=1 - 2 * maps, variances=0.1 + maps)
    write_representations(run, REPRESENTATIONS)
    for kept in ("run.json", "training.json"):
        write_listing(run / kept)
    return DrawnRun(cell, type(record).model_validate(values), run, run, Path(study.study) / "study.json")


def made_up_study(paths: Paths, cell: Cell) -> StudySpec:
    """Write the study of a cell, with a trial of each state."""
    path, now = paths.study_of(cell), datetime.now(UTC)
    search = {"backbones": [BACKBONE], "objective": "validation"}
    spec = StudySpec(
        name=cell.method, variant={"method": cell.method, "search": search},
        setting=cell.setting, dataset=cell.dataset, category=cell.category, reader=cell.dataset, manifest="m.csv",
        backbones=[{"tag": cell.backbone, "features": "meta.json"}], study=str(path.parent),
    )  # fmt: skip
    study = StudyDescription(
        name=cell.method, cell={**spec.model_dump(include={"setting", "dataset", "category"}), "method": cell.method},
        backbones=[cell.backbone], objective="validation", metric="pixel_auroc", direction="maximize", budget=3,
        budget_seconds=None, workers=1, sampler="tpe", seed=0, space={},
    )  # fmt: skip
    trials = [
        TrialRecord(
            number=number, state=state, params={"lr": 0.001}, value=value, intermediate={}, seconds=1.0, worker=0,
            started=now, finished=now,
        )
        for number, (state, value) in enumerate([("complete", 0.75), ("pruned", None), ("failed", None)])
    ]  # fmt: skip
    best = BestTrial(number=0, backbone=cell.backbone, settings={"lr": 0.001}, params={"lr": 0.001}, value=0.75)
    record = StudyRecord(
        spec=spec, study=study, trials=trials, best=best, by_backbone={cell.backbone: best}, importances={"lr": 1.0},
        validation=[], seconds=3.0, provenance={},
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_study(path, record)
    return spec
