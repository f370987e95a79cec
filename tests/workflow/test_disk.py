"""Disk use of a run: features and models are deleted when no job needs them, and can be made again by path."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_image_folder
from tests.in_process import run_nfbench
from tests.workflow.conftest import Checkout

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

EXPERIMENT = """
title: Own images
datasets:
  own-parts: {dataset: folder, root: own}
variants:
  padim-own: {method: padim, settings: {reduced_dimensions: 10}}
  flow-own: {method: fastflow, settings: {epochs: 2, checkpoints: 2, batch_size: 3, flow_steps: 1}}
grid:
  - methods: [padim-own, flow-own]
    backbones: [{name: tf_efficientnet_lite0, input_size: 32, weights: random}]
    datasets: {own-parts: [one, two, three]}
tables:
  own_image_auroc: {title: Own images, metric: image_auroc}
"""


GONE = ("--config", "keep_features=false")
PART = "tf_efficientnet_lite0@32-random"
RUN = f"results/runs/one-class/own-parts/one/padim-own/{PART}/seed0"
VIEWS = [f"results/features/{PART}/own-parts/one/{view}/meta.json" for view in ("test", "train")]
MANIFEST, MODEL, SCORED = "results/manifests/own-parts/one.csv", f"{RUN}/model.safetensors", f"{RUN}/scored/scored.json"
TIMED = {"meta.json", "one.json", "history.csv", "scored.json", "training.json"}
"""Files with times in them."""


def digests(folder: Path, *names: str) -> dict[str, str]:
    """Hashes of all files in and below the folders of some files, without times."""
    paths = {path for name in names for path in (folder / name).parent.rglob("*") if path.is_file()}
    return {str(path.relative_to(folder)): digest(path) for path in paths if path.name not in TIMED}


def digest(path: Path) -> str:
    """Hash of a file, of scores without the seconds that they took."""
    content = path.read_bytes()
    if path.parent.name == "scored" and path.suffix == ".npz":
        with np.load(path) as arrays:
            content = b"".join(arrays[name].tobytes() for name in arrays if name != "seconds")
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, dict[str, str], str]:
    """A checkout in which a run that keeps no features has ended; what one cell had before, and what was printed."""
    checkout = Checkout(tmp_path_factory.mktemp("passed"))
    for category in ("one", "two", "three"):
        make_image_folder(checkout.folder / "own", category)
    (checkout.folder / "workflow/experiments/own.yaml").write_text(EXPERIMENT)
    checkout.snakemake(SCORED)
    before = digests(checkout.folder, MANIFEST, *VIEWS, MODEL)
    return checkout, before, checkout.snakemake("--printshellcmds", "own", *GONE)


def test_scores_come_before_the_next_training_and_trainings_before_the_next_features(passed):
    """With one job at a time, one model waits for its scores, and one category has features."""
    _, _, printed = passed
    pattern = r"(Extract|Train|Score) .* (?:on|of) own-parts, (\w+)|(Removing) .*/own-parts/(\w+)/(train)/"
    waiting, there, seen = 0, {"one"}, []
    for match in re.finditer(pattern, printed):
        kind, category = match[1] or match[3], match[2] or match[4]
        waiting += {"Train": 1, "Score": -1}.get(kind, 0)
        there = there - {category} if kind == "Removing" else there | {category}
        assert waiting <= 1
        assert len(there) <= 1
        seen.append(kind)
    assert [seen.count(kind) for kind in ("Extract", "Train", "Score", "Removing")] == [4, 5, 5, 3]


def test_features_go_with_the_last_job_that_reads_them_and_nothing_misses_them(passed):
    checkout, _, printed = passed
    assert "own is complete" in printed
    assert not [path for path in checkout.folder.glob("results/features/**/*") if path.is_file()]
    assert checkout.jobs("own", *GONE) == checkout.jobs("own") == {}


def test_all_that_is_deleted_comes_back_by_its_path(passed):
    checkout, before, _ = passed
    assert {Path(name).name for name in before} >= {"level2.npy", "model.safetensors", "0-test.maps.npy", "one.csv"}
    for name in (MANIFEST, MODEL, f"{RUN}/checkpoints.safetensors"):
        (checkout.folder / name).unlink()
    for target in (MANIFEST, *VIEWS, MODEL, SCORED):
        assert not (checkout.folder / target).exists()
        checkout.snakemake(target)
    found = digests(checkout.folder, MANIFEST, *VIEWS, MODEL)
    assert {name: found.get(name) for name in before} == before


def test_the_plan_takes_times_of_finished_jobs_and_measures_what_none_tells(passed):
    """A variant that has run tells its own time; one of another name does not, and is tried."""
    checkout, _, _ = passed
    path = checkout.folder / "workflow/experiments/own.yaml"
    more = EXPERIMENT.replace("variants:", "variants:\n  new-own: {method: fastflow, settings: {epochs: 1}}")
    path.write_text(more.replace("flow-own]", "flow-own, new-own]").replace("parts: [one", "parts: [four, one"))
    make_image_folder(checkout.folder / "own", "four")
    lines = {
        words[0]: line for line in run_nfbench(checkout.folder, "plan", "own").splitlines() if (words := line.split())
    }
    path.write_text(EXPERIMENT)
    assert re.search(r" 6 +6 .* \d+ s +", lines["train_flow"])
    assert "finished jobs (2)" in lines["train_flow"]  # of the new category, by padim-own and flow-own
    assert "calibration (4)" in lines["train_flow"]  # by new-own
    assert "finished jobs (" in lines["extract_features"]
