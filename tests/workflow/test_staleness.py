"""What makes results stale, and what does not: code, settings and files of a finished run are changed in many ways.

Most rows compare the plan before and after a change, in this process. Rows marked by ``dry_run`` ask Snakemake, in a
checkout with a copy of nfbench of its own.
"""

import ast
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import yaml
from PIL import Image

import nfbench
from nfbench.config import load_bench
from nfbench.datasets.base import find_dataset
from nfbench.plan import code
from nfbench.plan.job import Job
from nfbench.plan.plan import Plan
from nfbench.plan.specs import PrepareSpec
from nfbench.stages.prepare import prepare_data
from tests.conftest import make_image_folder
from tests.workflow.conftest import ROOT, Checkout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

SOURCE = Path(nfbench.__file__).parent
GATHERED = {"aggregate_results": 1, "build_table": 3, "build_figure": 6, "build_report": 1}
EVALUATED = {"evaluate_run": 4, **GATHERED}
TRAINED = {"train_flow": 4, **EVALUATED}
EXTRACTED = {"extract_features": 4, **TRAINED}
PREPARED = {"prepare_data": 2, **EXTRACTED}
ONE_METHOD = {"train_flow": 2, "evaluate_run": 2, **GATHERED}
RUN = "results/runs/one-class/synthetic-smoke/fabric/fastflow-smoke/tf_efficientnet_lite0@64-random/seed0"

NEW_FILES = {
    "methods/brand_new.py": "methods/padim.py",
    "backbones/brand_new.py": "backbones/alexnet.py",
    "datasets/brand_new.py": "datasets/mpdd.py",
    "anomalies/brand_new.py": "anomalies/cutpaste.py",
    "figures/brand_new.py": "figures/speed.py",
    "tables/brand_new.py": "tables/backbones.py",
}
"""A file of each kind of plug-in, and which one it is a copy of."""

EDITS = [
    ("methods/fastflow.py", "FastFlow", ONE_METHOD),
    ("methods/uflow.py", "UFlow", ONE_METHOD),
    ("blocks/flow_method.py", "FlowMethod", TRAINED),
    ("training/loop.py", "learning_rate", TRAINED),
    ("training/optimizer.py", "Adam", TRAINED),
    ("features/extract.py", "extract_features", EXTRACTED),
    ("backbones/efficientnet_lite.py", "_HALF", EXTRACTED),
    ("datasets/synthetic.py", "Synthetic", PREPARED),
    ("datasets/drawing.py", "SEED", PREPARED),
    ("datasets/manifest.py", "select_subset", PREPARED),
    ("scoring/maps.py", "_CONTOUR_QUANTILE", EVALUATED),
    ("metrics/ranking.py", "image_areas", EVALUATED),
    ("results/aggregate.py", "aggregate", GATHERED),
    ("tables/captions.py", "results_caption", {"build_table": 3, "build_report": 1}),
    ("tables/render.py", "to_latex", {"build_table": 3}),
    ("figures/maps.py", "_CELL", {"build_figure": 1}),
    ("figures/base.py", "write_figure", {"build_figure": 6}),
    ("report/report.css", "", {"build_report": 1}),
    ("methods/padim.py", "Padim", {}),
    ("backbones/resnet.py", "BACKBONES", {}),
    ("datasets/mpdd.py", "Mpdd", {}),
    ("anomalies/blend.py", "CANVAS", {}),
    ("figures/speed.py", "draw_speed", {}),
    ("tables/backbones.py", "make_backbones_table", {}),
    ("search/study.py", "SharedStudy", {}),
    ("tracking/mirror.py", "mirror", {}),
    ("cli/explain.py", "explain", {}),
]
"""Real edits: file, which of its definitions is changed, and the jobs that run again."""

LOOKS = [
    "methods/fastflow.py", "methods/padim.py", "backbones/efficientnet_lite.py", "datasets/synthetic.py",
    "anomalies/blend.py", "figures/maps.py", "tables/results.py", "blocks/glow.py", "blocks/method.py",
    "training/loop.py", "scoring/maps.py", "results/compose.py", "figures/base.py", "tables/captions.py",
    "plan/specs.py", "core/files.py",
]  # fmt: skip
"""Plug-ins of each kind, and code that they share."""


# --- the plan before and after a change ---------------------------------------------------------------------------


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


def edit(path: Path, definition: str) -> None:
    """Changes what a definition does; of a file without definitions, its text."""
    if not definition:
        path.write_text(path.read_text() + "\np { color: red }\n")
        return
    tree = ast.parse(path.read_text())
    named = {name: node for node in tree.body for name in _names(node)}
    if isinstance(named[definition], ast.Assign):
        named[definition].value = ast.Tuple([named[definition].value], ast.Load())
    else:
        named[definition].body.append(ast.parse("new = 1").body[0])
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []


def change_looks(path: Path) -> None:
    """Another format, no comments but a new one, and other docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = f"{node.value.value} In other words."
    path.write_text(f"# {path.name}\n{ast.unparse(tree)}\n")


def add_plugin(package: Path, file: str) -> None:
    """Adds a copy of another plug-in, under a name of its own."""
    model = package / NEW_FILES[file]
    (package / file).write_text(model.read_text().replace(model.stem, "brand_new"))


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Puts files back as they were: contents and times, or absence."""
    before = {path: (path.read_bytes(), path.stat()) if path.exists() else None for path in paths}
    try:
        yield
    finally:
        for path, known in before.items():
            if known is None:
                path.unlink()
            else:
                path.write_bytes(known[0])
                os.utime(path, ns=(known[1].st_atime_ns, known[1].st_mtime_ns))


# --- code ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def parsed_once() -> Iterator[None]:
    """Files of the copies are parsed again only where their text is new."""
    module = code.Module
    known = cache(lambda name, path, text: module(name, path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "Module", lambda name, path: known(name, path, path.read_bytes()))
        yield


@pytest.fixture(scope="module")
def smoke_jobs() -> dict[str, Job]:
    return jobs_of(plan_of(ROOT), "smoke")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "nfbench"
    return shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.parametrize(("file", "definition", "expected"), EDITS, ids=[row[0] for row in EDITS])
def test_a_real_edit_remakes_what_follows_from_it(smoke_jobs, package, file, definition, expected):
    before = states(smoke_jobs, package)
    with restored(package / file):
        edit(package / file, definition)
        after = states(smoke_jobs, package)
    assert stale(smoke_jobs, before, after) == expected


@pytest.mark.parametrize("file", LOOKS)
def test_comments_docstrings_and_format_remake_nothing(smoke_jobs, package, file):
    before = states(smoke_jobs, package)
    with restored(package / file):
        change_looks(package / file)
        after = states(smoke_jobs, package)
    assert stale(smoke_jobs, before, after) == {}


@pytest.mark.parametrize("file", NEW_FILES)
def test_a_new_plugin_remakes_nothing(smoke_jobs, package, file):
    before = states(smoke_jobs, package)
    with restored(package / file):
        add_plugin(package, file)
        after = states(smoke_jobs, package)
    assert stale(smoke_jobs, before, after) == {}


# --- settings -----------------------------------------------------------------------------------------------------

SETTINGS = [
    ({}, ("fastflow, settings: {epochs: 2,", "fastflow, settings: {epochs: 3,"), ONE_METHOD),
    ({}, ("{title: Smoke test, metric: image_auroc}", "{title: Smoke, metric: image_auroc}"),
     {"build_table": 1, "build_report": 1}),
    ({}, ("smoke_maps: {kind: maps}", "smoke_maps: {kind: speed}"), {"build_figure": 1}),
    ({}, ("input_size: 64", "input_size: 96"), EXTRACTED),
    ({"seeds": 2}, ("", ""), {"train_flow": 4, "evaluate_run": 4, **GATHERED}),
    ({"device": "cuda"}, ("", ""), {}),
    ({"fetch": True, "experiment": "smoke_search"}, ("", ""), {}),
    ({"variants": {"mine": {"method": "fastflow", "settings": {"lr": 0.1}}}}, ("", ""), {}),
]  # fmt: skip
"""Keys of the configuration, what is replaced in smoke.yaml by what, and the jobs that run again."""


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing runs."""
    return Checkout(tmp_path_factory.mktemp("unused"))


@pytest.mark.parametrize(("config", "replaced", "expected"), SETTINGS, ids=lambda value: str(value)[:40])
def test_settings_remake_what_reads_them(smoke_jobs, unused, config, replaced, expected):
    path = unused.folder / "workflow/experiments/smoke.yaml"
    with restored(path):
        path.write_text(path.read_text().replace(*replaced))
        jobs = jobs_of(plan_of(unused.folder, **config), "smoke")
    assert stale(jobs, states(smoke_jobs, SOURCE), states(jobs, SOURCE)) == expected


# --- as Snakemake sees it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dry_run(finished: Checkout) -> Callable[..., dict[str, int]]:
    """Jobs of a dry run in the finished checkout, which has its own copy of nfbench, but for the target."""
    shutil.copytree(SOURCE, finished.folder / "nfbench", ignore=shutil.ignore_patterns("__pycache__"))

    def run(*arguments: str) -> dict[str, int]:
        jobs = finished.jobs("smoke", *arguments)
        return {rule: count for rule, count in jobs.items() if rule not in ("smoke", "total")}

    assert run() == {}
    return run


def test_snakemake_makes_nothing_when_all_looks_change_and_plugins_come(finished, dry_run):
    package = finished.folder / "nfbench"
    for path in package.rglob("*.py"):
        change_looks(path)
    for file in NEW_FILES:
        add_plugin(package, file)
    assert dry_run() == {}


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([("methods/fastflow.py", "FastFlow")], ONE_METHOD),
        ([("scoring/maps.py", "_CONTOUR_QUANTILE")], EVALUATED),
        ([("tables/captions.py", "results_caption")], {"build_table": 3, "build_report": 1}),
        ([("methods/padim.py", "Padim"), ("anomalies/blend.py", "CANVAS"), ("figures/speed.py", "draw_speed")], {}),
    ],
    ids=["method", "contour", "caption", "others"],
)
def test_snakemake_makes_what_follows_from_an_edit(finished, dry_run, edits, expected):
    files = [finished.folder / "nfbench" / file for file, _ in edits]
    with restored(*files):
        for path, (_, definition) in zip(files, edits, strict=True):
            edit(path, definition)
        assert dry_run() == expected


def test_snakemake_makes_the_runs_of_a_new_seed_alone(dry_run):
    assert dry_run("--config", "seeds=2") == {"train_flow": 4, "evaluate_run": 4, **GATHERED}


def test_snakemake_makes_nothing_for_keys_that_no_result_follows_from(dry_run):
    assert dry_run("--config", "device=cuda", "fetch=true", "experiment=smoke_search") == {}


def test_snakemake_makes_the_trainings_of_a_changed_variant(finished, dry_run):
    path = finished.folder / "workflow/experiments/smoke.yaml"
    with restored(path):
        path.write_text(path.read_text().replace("fastflow, settings: {epochs: 2,", "fastflow, settings: {epochs: 3,"))
        assert dry_run() == ONE_METHOD


def test_records_tell_what_snakemake_does_not_know(finished, dry_run):
    """As in another checkout on the same results, or without ``.snakemake``; a damaged record is made again too."""
    path, record = finished.folder / "workflow/experiments/smoke.yaml", finished.folder / RUN / "run.json"
    known = (finished.folder / ".snakemake").rename(finished.folder / "away")
    try:
        assert dry_run() == {}
        with restored(path):
            path.write_text(
                path.read_text().replace("fastflow, settings: {epochs: 2,", "fastflow, settings: {epochs: 3,")
            )
            assert dry_run() == ONE_METHOD
        with restored(record):
            record.write_text(record.read_text()[:-50])
            assert dry_run() == {"evaluate_run": 1, **GATHERED}
    finally:
        shutil.rmtree(finished.folder / ".snakemake", ignore_errors=True)
        known.rename(finished.folder / ".snakemake")


def test_snakemake_makes_nothing_when_jobs_run_in_an_environment_of_conda(dry_run, conda):
    assert dry_run("--use-conda") == {}


def test_intermediates_are_made_again_only_when_they_are_needed(finished, dry_run):
    """FastFlow's record needs its model, and this the features; the other run of the category has used them before."""
    for folder in ("features", "manifests"):
        shutil.rmtree(finished.folder / "results" / folder)
    for path in finished.folder.rglob("results/runs/**/*.safetensors"):
        path.unlink()
    assert dry_run() == {}
    with restored(finished.folder / RUN / "run.json"):
        (finished.folder / RUN / "run.json").unlink()
        jobs = dry_run()
    assert jobs == {"prepare_data": 1, "extract_features": 2, "train_flow": 1, "evaluate_run": 1, **GATHERED}


# --- files --------------------------------------------------------------------------------------------------------

OWN = """
title: Own images
datasets:
  own-parts: {dataset: folder, root: own}
variants:
  padim-own: {method: padim, settings: {reduced_dimensions: 10}}
grid:
  - methods: [padim-own]
    backbones: [{name: tf_efficientnet_lite0, input_size: 64, weights: random}]
    datasets: {own-parts: [part]}
tables:
  own_image_auroc: {title: Own images, metric: image_auroc}
"""
FOLLOWS = {
    "prepare_data": 1, "extract_features": 2, "train_flow": 1, "evaluate_run": 1,
    "aggregate_results": 1, "build_table": 1, "build_report": 1,
}  # fmt: skip


def touch_all(part: Path) -> None:
    for path in part.rglob("*.*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def copy_all(part: Path) -> None:
    """As a copy without the times of files."""
    shutil.copytree(part, part.with_name("new"), copy_function=shutil.copyfile)
    shutil.rmtree(part)
    part.with_name("new").rename(part)


def replace_image(path: Path) -> None:
    Image.new("RGB", Image.open(path).size, "red").save(path)


def replace_mask(path: Path) -> None:
    Image.new("L", Image.open(path).size, 1).save(path)


FILE_CHANGES = {
    "image added": (lambda part: shutil.copy(part / "train/good/000.png", part / "train/good/100.png"), True),
    "image removed": (lambda part: (part / "train/good/000.png").unlink(), True),
    "image replaced": (lambda part: replace_image(part / "train/good/000.png"), True),
    "image renamed": (lambda part: (part / "train/good/000.png").rename(part / "train/good/9.png"), True),
    "test image added": (lambda part: shutil.copy(part / "test/good/000.png", part / "test/good/100.png"), True),
    "mask added": (
        lambda part: shutil.copy(part / "ground_truth/dent/000_mask.png", part / "ground_truth/dent/003_mask.png"),
        True,
    ),
    "mask removed": (lambda part: (part / "ground_truth/dent/000_mask.png").unlink(), True),
    "mask replaced": (lambda part: replace_mask(part / "ground_truth/dent/000_mask.png"), True),
    "all touched": (touch_all, False),
    "all copied with new times": (copy_all, False),
    "hidden file added": (lambda part: (part / "train/good/.hidden.png").touch(), False),
    "hidden folder added": (lambda part: shutil.copytree(part / "train", part / ".old"), False),
}
"""What is done to the folder of a category, and whether it is prepared again."""


@contextmanager
def folder_restored(folder: Path) -> Iterator[None]:
    kept = shutil.copytree(folder, folder.with_name("kept"))
    try:
        yield
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which an experiment on a small folder of images has run."""
    checkout = Checkout(tmp_path_factory.mktemp("own"))
    make_image_folder(checkout.folder / "own", "part")
    (checkout.folder / "workflow/experiments/own.yaml").write_text(OWN)
    checkout.snakemake("own")
    return checkout


@pytest.mark.parametrize("change", FILE_CHANGES)
def test_files_of_a_category_decide_whether_it_is_prepared_again(own, monkeypatch, change):
    monkeypatch.chdir(own.folder)
    act, prepared_again = FILE_CHANGES[change]
    before = plan_of(own.folder).prepare("own-parts", "part").spec
    with folder_restored(own.folder / "own"):
        act(own.folder / "own/part")
        after = plan_of(own.folder).prepare("own-parts", "part").spec
    assert (after != before) == prepared_again


@pytest.mark.parametrize("change", ["image added", "mask replaced", "all touched"])
def test_snakemake_makes_what_follows_from_changed_files(own, change):
    act, prepared_again = FILE_CHANGES[change]
    with folder_restored(own.folder / "own"):
        act(own.folder / "own/part")
        jobs = own.jobs("own")
    assert jobs == ({**FOLLOWS, "own": 1, "total": 9} if prepared_again else {})


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
def test_a_changed_split_is_prepared_again(tmp_path, make):
    name, root = make.__name__, tmp_path / "images"
    category, split = make(root)
    config = {"results_root": str(tmp_path / "results"), "datasets": {"mine": {"dataset": name, "root": str(root)}}}

    def spec() -> PrepareSpec:
        return plan_of(ROOT, **config).prepare("mine", category).spec

    prepare_data(spec())
    before = spec()
    os.utime(split, (1_000_000_000, 1_000_000_000))
    assert spec() == before
    split.write_text("\n".join(split.read_text().splitlines()[:-1]) + "\n")
    assert spec() != before
