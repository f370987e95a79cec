"""What makes the jobs of a plan stale, and what does not: code, settings and files are changed in many ways.

How Snakemake sees it is in ``tests/workflow/test_staleness.py``.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml
from PIL import Image

from nfbench.config import load_bench
from nfbench.datasets._base import find_dataset
from nfbench.plan import code
from nfbench.plan.job import Job
from nfbench.plan.plan import Plan
from nfbench.plan.specs import PrepareSpec
from nfbench.stages.prepare import prepare_data
from tests.changes import (
    EVALUATED,
    EXTRACTED,
    FILE_CHANGES,
    GATHERED,
    NEW_FILES,
    ONE_METHOD,
    PREPARED,
    SCORED,
    SOURCE,
    TRAINED,
    add_plugin,
    change_looks,
    edit,
    restored,
)
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("parsed_once")]

EDITS = [
    ("methods/fastflow.py", "FastFlow", ONE_METHOD),
    ("methods/uflow.py", "UFlow", ONE_METHOD),
    ("blocks/flow_method.py", "FlowMethod", TRAINED),
    ("training/loop.py", "learning_rate", TRAINED),
    ("training/optimizer.py", "Adam", TRAINED),
    ("features/extract.py", "extract_features", EXTRACTED),
    ("backbones/efficientnet_lite.py", "_HALF", EXTRACTED),
    ("datasets/synthetic.py", "Synthetic", PREPARED),
    ("datasets/_drawing.py", "SEED", PREPARED),
    ("datasets/_manifest.py", "select_subset", PREPARED),
    ("metrics/_thresholds.py", "_CONTOUR_SHARE", EVALUATED),
    ("scoring/maps.py", "score_images", SCORED),
    ("scoring/gradients.py", "GradientMaps", SCORED),
    ("metrics/_ranking.py", "image_areas", EVALUATED),
    ("metrics/f1.py", "METRICS", EVALUATED),
    ("results/aggregate.py", "aggregate", GATHERED),
    ("tables/_captions.py", "caption_of_runs", {"build_table": 3, "build_report": 1}),
    ("tables/results.py", "ResultsTable", {"build_table": 3, "build_report": 1}),
    ("tables/_render.py", "to_latex", {"build_table": 3}),
    ("figures/maps.py", "_CELL", {"build_figure": 1}),
    ("figures/_base.py", "write_figure", {"build_figure": 6}),
    ("report/report.css", "", {"build_report": 1}),
    ("methods/padim.py", "Padim", {}),
    ("backbones/resnet.py", "BACKBONES", {}),
    ("datasets/mpdd.py", "Mpdd", {}),
    ("anomalies/blend.py", "CANVAS", {}),
    ("figures/speed.py", "SpeedFigure", {}),
    ("tables/backbones.py", "BackbonesTable", {}),
    ("search/study.py", "SharedStudy", {}),
    ("tracking/mirror.py", "mirror", {}),
    ("cli/explain.py", "explain", {}),
]
"""Real edits: file, which of its definitions is changed, and the jobs that run again."""

LOOKS = [
    "methods/fastflow.py", "methods/padim.py", "backbones/efficientnet_lite.py", "datasets/synthetic.py",
    "anomalies/blend.py", "figures/maps.py", "tables/results.py", "blocks/glow.py", "blocks/method.py",
    "training/loop.py", "scoring/maps.py", "results/compose.py", "figures/_base.py", "tables/_captions.py",
    "plan/specs.py", "core/files.py",
]  # fmt: skip
"""Plug-ins of each kind, and code that they share."""


def jobs_of(plan: Plan, experiment: str) -> dict[str, Job]:
    """All jobs of an experiment by their logs, each after those that it waits for."""
    found: dict[str, Job] = {}

    def add(job: Job) -> None:
        if str(job.log) not in found:
            for earlier in job.before:
                add(earlier)
            found[str(job.log)] = job

    config = plan.bench.experiment(experiment)
    for last in (
        *(plan.table(experiment, name) for name in config.tables),
        *(plan.figure(experiment, name) for name in config.figures),
        plan.report(experiment),
    ):
        add(last)
    return found


def plan_of(folder: Path, **config: object) -> Plan:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    return Plan(load_bench({**values, **config}, folder / "workflow" / "experiments"))


def states(jobs: dict[str, Job], package: Path) -> dict[str, tuple[str, str]]:
    """Spec and code of each job, with the code as it is in a folder."""
    known = code.Code(package, "nfbench")
    hashed = cache(known.hash)
    return {
        log: (
            job.spec.to_json(),
            hashed(f"nfbench.stages.{job.spec.function}", *job.spec.plugins),
        )
        for log, job in jobs.items()
    }


def stale(jobs: dict[str, Job], before: dict[str, tuple[str, str]], after: dict[str, tuple[str, str]]) -> Counter:
    """Number of jobs by rule whose spec or code is new, or that follow such a job."""
    found: set[str] = set()
    for log, job in jobs.items():
        if before.get(log) != after[log] or any(str(earlier.log) in found for earlier in job.before):
            found.add(log)
    return Counter(jobs[log].stage for log in found)


# --- code ---


@pytest.fixture(scope="module")
def smoke_jobs() -> dict[str, Job]:
    return jobs_of(plan_of(ROOT), "smoke")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "nfbench"
    return shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="module")
def before(smoke_jobs: dict[str, Job], package: Path) -> dict[str, tuple[str, str]]:
    """States with the code as it is."""
    return states(smoke_jobs, package)


@pytest.mark.parametrize(("file", "definition", "expected"), EDITS, ids=[row[0] for row in EDITS])
def test_a_real_edit_remakes_what_follows_from_it(smoke_jobs, package, before, file, definition, expected):
    with restored(package / file):
        edit(package / file, definition)
        after = states(smoke_jobs, package)
    assert stale(smoke_jobs, before, after) == expected


@pytest.mark.parametrize("file", LOOKS)
def test_comments_docstrings_and_format_remake_nothing(smoke_jobs, package, before, file):
    with restored(package / file):
        change_looks(package / file)
        after = states(smoke_jobs, package)
    assert stale(smoke_jobs, before, after) == {}


@pytest.mark.parametrize("file", NEW_FILES)
def test_a_new_plugin_remakes_nothing(smoke_jobs, package, before, file):
    with restored(package / file):
        add_plugin(package, file)
        after = states(smoke_jobs, package)
    assert stale(smoke_jobs, before, after) == {}


# --- settings ---

SETTINGS = [
    ({}, ("fastflow, settings: {epochs: 2,", "fastflow, settings: {epochs: 3,"), ONE_METHOD),
    ({}, ("{title: Smoke test, metric: image_auroc}", "{title: Smoke, metric: image_auroc}"),
     {"build_table": 1, "build_report": 1}),
    ({}, ("smoke_maps: {kind: maps}", "smoke_maps: {kind: speed}"), {"build_figure": 1}),
    ({}, ("input_size: 64", "input_size: 96"), EXTRACTED),
    ({"seeds": 2}, ("", ""), {"train_flow": 4, "score_run": 4, "evaluate_run": 4, **GATHERED}),
    ({"device": "cuda"}, ("", ""), {}),
    ({"fetch": True, "experiment": "smoke_search"}, ("", ""), {}),
    ({"variants": {"mine": {"method": "fastflow", "settings": {"lr": 0.1}}}}, ("", ""), {}),
    ({"datasets": {"mine": {"dataset": "synthetic", "max_train": 2}}}, ("", ""), {}),
]  # fmt: skip
"""Keys of the configuration, what is replaced in smoke.yaml by what, and the jobs that run again."""


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the configuration and the experiments."""
    folder = tmp_path_factory.mktemp("experiments")
    shutil.copy(ROOT / "config.yaml", folder)
    shutil.copytree(ROOT / "workflow/experiments", folder / "workflow/experiments")
    return folder


@pytest.mark.parametrize(("config", "replaced", "expected"), SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_remake_what_reads_them(smoke_jobs, experiments, config, replaced, expected):
    path = experiments / "workflow/experiments/smoke.yaml"
    with restored(path):
        path.write_text(path.read_text().replace(*replaced))
        jobs = jobs_of(plan_of(experiments, **config), "smoke")
    assert stale(jobs, states(smoke_jobs, SOURCE), states(jobs, SOURCE)) == expected


# --- files ---


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[str, Path, str], Callable[[], PrepareSpec]]:
    """Prepare a category; return what gives the spec that the plan has for it now."""

    def prepare(reader: str, root: Path, category: str) -> Callable[[], PrepareSpec]:
        own = {"mine": {"dataset": reader, "root": str(root)}}
        values = {"results_root": str(tmp_path / "results"), "datasets": own}

        def spec() -> PrepareSpec:
            return Plan(load_bench(values, tmp_path)).prepare("mine", category).spec  # without an experiment

        prepare_data(spec())
        return spec

    return prepare


@pytest.mark.parametrize("change", FILE_CHANGES)
def test_files_of_a_category_decide_whether_it_is_prepared_again(image_folder, prepared, change):
    act, prepared_again = FILE_CHANGES[change]
    spec = prepared("folder", image_folder, "part")
    before = spec()
    act(image_folder / "part")
    assert (spec() != before) == prepared_again


def visa(root: Path) -> tuple[str, Path]:
    find_dataset("visa").miniature(root)
    return "candle", root / "split_csv/1cls.csv"


def elpv(root: Path) -> tuple[str, Path]:
    root.mkdir()
    rows = [(f"{number}.png", probability) for number, probability in enumerate([0.0] * 6 + [1.0] * 2)]
    for name, _ in rows:
        Image.new("L", (32, 32), 7).save(root / name)
    (root / "labels.csv").write_text("".join(f"{name} {probability} mono\n" for name, probability in rows))
    return "mono", root / "labels.csv"


@pytest.mark.parametrize("make", [visa, elpv], ids=lambda make: make.__name__)
def test_a_changed_split_is_prepared_again(tmp_path, prepared, make):
    category, split = make(tmp_path / "images")
    spec = prepared(make.__name__, tmp_path / "images", category)
    before = spec()
    os.utime(split, (1_000_000_000, 1_000_000_000))
    assert spec() == before
    split.write_text("\n".join(split.read_text().splitlines()[:-1]) + "\n")
    assert spec() != before
