"""Jobs that Snakemake repeats after code, settings or files of a finished run have changed.

Changes of code are made in a checkout with its own copy of nfbench. All changes of code and settings are tried on the
plan alone in ``tests/plan/test_staleness.py``.
"""

import shutil
from collections.abc import Callable

import pytest

from tests.changes import (
    FILE_CHANGES,
    GATHERED,
    NEW_FILES,
    ONE_METHOD,
    SCORED,
    SOURCE,
    add_plugin,
    change_looks,
    edit,
    folder_restored,
    restored,
)
from tests.conftest import make_image_folder
from tests.in_process import DRY_RUN, count_jobs, run_experiment
from tests.workflow.conftest import Checkout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RUN = "results/runs/one-class/synthetic-smoke/fabric/fastflow-smoke/tf_efficientnet_lite0@64-random/seed0"
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
    "prepare_data": 1, "extract_features": 2, "train_flow": 1, "score_run": 1, "evaluate_run": 1,
    "aggregate_results": 1, "build_table": 1, "build_report": 1,
}  # fmt: skip


@pytest.fixture
def dry_run(finished: Checkout) -> Callable[..., dict[str, int]]:
    """Jobs of a dry run in the finished checkout but for the target, in this process."""
    return lambda *arguments: without_target(finished.jobs("smoke", *arguments))


@pytest.fixture(scope="module")
def dry_run_of_copy(finished: Checkout) -> Callable[[], dict[str, int]]:
    """The same in a process of its own, which imports the checkout's own copy of nfbench."""
    shutil.copytree(SOURCE, finished.folder / "nfbench", ignore=shutil.ignore_patterns("__pycache__"))
    return lambda: without_target(count_jobs(finished.snakemake_apart(*DRY_RUN, "smoke")))


def without_target(jobs: dict[str, int]) -> dict[str, int]:
    return {rule: count for rule, count in jobs.items() if rule not in ("smoke", "total")}


def test_snakemake_makes_nothing_when_all_looks_change_and_plugins_come_or_are_not_used(finished, dry_run_of_copy):
    package = finished.folder / "nfbench"
    unused = {"methods/padim.py": "Padim", "anomalies/blend.py": "CANVAS", "figures/speed.py": "_point"}
    for path in package.rglob("*.py"):
        change_looks(path)
    for file in NEW_FILES:
        add_plugin(package, file)
    with restored(*(package / file for file in unused)):
        for file, definition in unused.items():
            edit(package / file, definition)
        assert dry_run_of_copy() == {}


@pytest.mark.parametrize(
    ("file", "definition", "expected"),
    [
        ("methods/fastflow.py", "FastFlow", ONE_METHOD),
        ("metrics/_thresholds.py", "_CONTOUR_SHARE", SCORED),
        ("tables/_captions.py", "caption_of_runs", {"build_table": 3, "build_report": 1}),
    ],
    ids=["method", "contour", "caption"],
)
def test_snakemake_makes_what_follows_from_an_edit(finished, dry_run_of_copy, file, definition, expected):
    path = finished.folder / "nfbench" / file
    with restored(path):
        edit(path, definition)
        assert dry_run_of_copy() == expected


def test_snakemake_makes_the_runs_of_a_new_seed_alone(dry_run):
    assert dry_run("--config", "seeds=2") == {"train_flow": 4, "score_run": 4, "evaluate_run": 4, **GATHERED}


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
            assert dry_run() == {"score_run": 1, "evaluate_run": 1, **GATHERED}
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
    assert jobs == {
        "prepare_data": 1,
        "extract_features": 2,
        "train_flow": 1,
        "score_run": 1,
        "evaluate_run": 1,
        **GATHERED,
    }


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which an experiment on a small folder of images has run."""
    checkout = Checkout(tmp_path_factory.mktemp("own"))
    make_image_folder(checkout.folder / "own", "part")
    (checkout.folder / "workflow/experiments/own.yaml").write_text(OWN)
    run_experiment(checkout.folder, "own")
    return checkout


@pytest.mark.parametrize("change", ["image added", "mask replaced", "all touched"])
def test_snakemake_makes_what_follows_from_changed_files(own, change):
    act, prepared_again = FILE_CHANGES[change]
    with folder_restored(own.folder / "own"):
        act(own.folder / "own/part")
        jobs = own.jobs("own")
    assert jobs == ({**FOLLOWS, "own": 1, "total": 10} if prepared_again else {})


@pytest.mark.parametrize(
    ("kept", "files"),
    [("last", {"model.safetensors"}), ("none", set()), (None, {"model.safetensors", "checkpoints.safetensors"})],
)
def test_models_that_are_not_to_stay_are_deleted_and_nothing_misses_them(own, kept, files):
    """Until the evaluation has to be repeated, for which the model is trained again."""
    record = next(own.folder.glob("results/runs/one-class/own-parts/*/*/*/*/run.json"))
    record.unlink()
    jobs = count_jobs(own.snakemake("--printshellcmds", "own", *(["--config", f"keep_models={kept}"] if kept else [])))
    assert {path.name for path in record.parent.glob("*.safetensors")} - {"held_out.safetensors"} == files
    assert jobs["evaluate_run"] == 1
    assert "extract_features" not in jobs
    assert own.jobs("own") == {}
