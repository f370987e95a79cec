"""A study by its commands: judged on the test set its best value is the run's own, lost trainings count as trials."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.results.record import read_record
from nfbench.search.record import read_study

BACKBONE = {"name": "tf_efficientnet_lite0", "input_size": 64, "levels": [2, 3], "weights": "random"}
TAG = "tf_efficientnet_lite0@64-l23-random"
PLACE = ("--dataset", "own", "--category", "part")


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """Manifest and features of a category of noise, with squares as defects."""
    folder = tmp_path_factory.mktemp("extracted")
    rng = np.random.default_rng(0)
    for place, count in (("train/good", 8), ("test/good", 4), ("test/square", 4)):
        (folder / "own/part" / place).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            if place == "test/square":
                image[20:40, 20:40] = 255
                mask = np.zeros((64, 64), dtype=np.uint8)
                mask[20:40, 20:40] = 255
                (folder / "own/part/ground_truth/square").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(folder / f"own/part/ground_truth/square/{number:03}_mask.png")
            Image.fromarray(image).save(folder / "own/part" / place / f"{number:03}.png")
    root = folder / "own"
    run("prepare_data", "--dataset", "folder", "--category", "part", "--root", root, "--output", folder / "m.csv")
    for view in ("train", "test"):
        where = ("--manifest", folder / "m.csv", "--view", view, "--output", folder / view / "meta.json")
        backbone = ("--backbone", BACKBONE["name"], "--input-size", 64, "--levels", "2,3", "--weights", "random")
        run("extract_features", *where, *backbone)
    return folder


def search(extracted, study, method="padim", settings=None, **options):
    """Describes a study and searches it with one worker."""
    config = {"backbones": [BACKBONE], "objective": "test", "metric": "pixel_auroc", "trials": 4, **options}
    variant = json.dumps({"method": method, "settings": settings or {}, "search": config})
    features = ("--features", extracted / "train" / "meta.json", "--test-features", extracted / "test" / "meta.json")
    run("create_study", "--study", study, "--variant", variant, "--name", "tuned", *PLACE, "--reader", "folder",
        "--manifest", extracted / "m.csv", *features)  # fmt: skip
    run("search_hyperparameters", "--study", study, "--device", "cpu", "--threads", 1)
    run("summarize_study", "--study", study)
    return read_study(study / "study.json")


def train(extracted, study, folder, method, settings, variant="tuned"):
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    run("train_flow", "--run", folder, "--method", method, "--variant", variant, *PLACE, "--backbone-tag", TAG,
        "--manifest", extracted / "m.csv", "--features", extracted / "train" / "meta.json", *overrides,
        "--study", study / "study.json", "--device", "cpu", "--threads", 1)  # fmt: skip


FEW = {"epochs": 2, "batch_size": 4, "checkpoints": 2, "flow_steps": 1, "hidden_ratio": 0.5}


@pytest.mark.parametrize(
    ("method", "settings", "metric"),
    [
        ("padim", {}, "pixel_auroc"),
        ("fastflow", FEW, "pixel_aupro"),
        ("simplenet", {"epochs": 1, "embedding_dim": 16, "checkpoints": 1}, "image_ap"),
        ("hgad", {"epochs": 1, "coupling_blocks": 1, "condition_dim": 8, "meta_epochs": 1}, "image_auroc"),
    ],
)
def test_the_best_value_is_that_of_the_run(extracted, tmp_path, method, settings, metric):
    found = search(extracted, tmp_path / "study", method, settings, metric=metric)
    assert found.study.metric == metric
    assert [trial.state for trial in found.trials].count("complete") >= 1
    train(extracted, tmp_path / "study", tmp_path / "run", method, settings)
    features = ("--train-features", extracted / "train" / "meta.json", "--features", extracted / "test" / "meta.json")
    run("evaluate_run", "--run", tmp_path / "run", *features, "--manifest", extracted / "m.csv", "--device", "cpu")
    record = read_record(tmp_path / "run" / "run.json")
    assert record.selections["last"].metrics[metric] == found.best.value == record.search.value
    assert {name: record.settings[name] for name in found.best.settings} == found.best.settings


def test_trainings_that_diverge_are_trials_that_failed(extracted, tmp_path):
    space = {"lr": {"low": 1e5, "high": 1e6}, "batch_size": None, "kernels": None}
    with pytest.raises(NfbenchError, match=r"no trial completed; .*the loss is .*; narrow its 'space'"):
        search(extracted, tmp_path / "none", "fastflow", FEW, trials=2, space=space)
    space["lr"] = {"choices": [1e-3, 1e6]}
    found = search(extracted, tmp_path / "some", "fastflow", FEW, trials=8, space=space)
    assert {trial.state for trial in found.trials} >= {"complete", "failed"}
    assert found.best.settings == {"lr": 1e-3}
    failed = [trial for trial in found.trials if trial.state == "failed"]
    assert all(trial.params == {"lr": 1e6} and "the loss is" in trial.message for trial in failed)
    assert found.importances == {}  # of settings that all complete trials share there is nothing to say


def test_images_that_cannot_judge_are_refused_before_the_first_trial(extracted, tmp_path):
    rows = (extracted / "m.csv").read_text().splitlines()
    (tmp_path / "m.csv").write_text("\n".join(row for row in rows if not row.startswith("test,0")) + "\n")
    for name in ("train", "test"):
        (tmp_path / name).symlink_to(extracted / name)
    with pytest.raises(NfbenchError, match="two normal and two anomalous images"):
        search(tmp_path, tmp_path / "study", objective="validation", metric="image_auroc")
    assert not (tmp_path / "study" / "description.json").exists()


def test_other_features_make_another_study(extracted, tmp_path):
    first = search(extracted, tmp_path, trials=3)
    assert search(extracted, tmp_path, trials=3).trials == first.trials
    other = search(extracted, tmp_path, trials=3, seed=1)
    assert len(other.trials) == 3
    assert other.trials[1:] != first.trials[1:]
    assert search(extracted, tmp_path, trials=3).trials == first.trials


def test_importances_of_enough_trials(extracted, tmp_path):
    found = search(extracted, tmp_path, trials=8, pruning=False)
    assert set(found.importances) == {"reduced_dimensions", "regularization"}
    assert sum(found.importances.values()) == pytest.approx(1, abs=1e-4)


def test_a_study_that_is_not_done_is_not_summed_up(extracted, tmp_path):
    search(extracted, tmp_path, trials=2)
    description = json.loads((tmp_path / "description.json").read_text())
    description["variant"]["search"]["trials"] = 3
    (tmp_path / "description.json").write_text(json.dumps(description))
    with pytest.raises(NfbenchError, match="2 of 3 trials have ended"):
        run("summarize_study", "--study", tmp_path)


def test_a_study_of_another_run_is_refused(extracted, tmp_path):
    search(extracted, tmp_path, trials=1)
    with pytest.raises(NfbenchError, match="is the study of one-class/own/part/tuned, not of one-class/own/part/else"):
        train(extracted, tmp_path, tmp_path / "run", "padim", {}, variant="else")


@pytest.mark.parametrize("damage", ["{", '{"study": {}}'])
def test_a_damaged_record_is_named(tmp_path, damage):
    (tmp_path / "study.json").write_text(damage)
    with pytest.raises(NfbenchError, match=r"study\.json"):
        read_study(tmp_path / "study.json")


def test_options_are_given_once_for_each_backbone(extracted, tmp_path):
    with pytest.raises(NfbenchError, match=r"--features is given 1 times for the backbones .*, resnet18"):
        search(extracted, tmp_path, backbones=[BACKBONE, {"name": "resnet18.tv_in1k"}])
