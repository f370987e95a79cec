"""A study by its stages: judged on the test set its best value is the run's own, lost trainings count as trials."""

import numpy as np
import pytest
from PIL import Image

from nfbench.config import VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import read_sealed
from nfbench.metrics import find_metric
from nfbench.plan.cells import Cell
from nfbench.plan.specs import (
    EvaluateSpec,
    ExtractSpec,
    PrepareSpec,
    ScoreSpec,
    SearchSpec,
    StudySpec,
    SummarizeSpec,
    TrainSpec,
)
from nfbench.results.record import read_record
from nfbench.search.record import StudyStart, read_study
from nfbench.stages.evaluate import evaluate_run
from nfbench.stages.extract import extract_features
from nfbench.stages.prepare import prepare_data
from nfbench.stages.score import score_run
from nfbench.stages.search import create_study, search_hyperparameters, summarize_study
from nfbench.stages.train import train_flow

BACKBONE = {"name": "tf_efficientnet_lite0", "input_size": 64, "levels": [2, 3], "weights": "random"}
TAG = "tf_efficientnet_lite0@64-l23-random"


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
    manifest = str(folder / "m.csv")
    read = {"dataset": {"dataset": "folder"}, "category": "part", "root": str(folder / "own")}
    prepare_data(PrepareSpec(**read, manifest=manifest))
    for view in ("train", "test"):
        path = str(folder / view / "meta.json")
        extract_features(ExtractSpec(manifest=manifest, view=view, backbone=BACKBONE, features=path), "cpu", 1)
    return folder


def study_spec(extracted, study, method="padim", settings=None, code="", **options):
    config = {"backbones": [BACKBONE], "objective": "test", "metric": "pixel_auroc", "trials": 4, **options}
    features = {key: str(extracted / view / "meta.json")
                for key, view in (("features", "train"), ("test_features", "test"))}  # fmt: skip
    return StudySpec(
        name="tuned",
        variant=VariantConfig(method=method, settings=settings or {}, search=config),
        dataset="own",
        category="part",
        reader="folder",
        manifest=str(extracted / "m.csv"),
        backbones=[{"tag": TAG, **features}],
        code=code,
        study=str(study),
    )


def search(extracted, study, method="padim", settings=None, **options):
    """Describe a study and search it with one worker."""
    spec = study_spec(extracted, study, method, settings, **options)
    create_study(spec)
    search_hyperparameters(SearchSpec(study=spec), "cpu", 1)
    summarize_study(SummarizeSpec(study=spec))
    return read_study(study / "study.json")


def train(extracted, study, folder, method, settings, variant="tuned"):
    train_flow(
        TrainSpec(
            cell=Cell("one-class", "own", "part", variant, TAG, 0),
            method=method,
            settings=settings,
            reader="folder",
            backbone=BACKBONE,
            classes=[{"name": "part", "manifest": str(extracted / "m.csv"),
                      "features": str(extracted / "train" / "meta.json")}],
            study=str(study / "study.json"),
            run=str(folder),
        ), "cpu", 1
    )  # fmt: skip


def evaluate(extracted, folder, method):
    place = {"trained": str(folder), "manifest": str(extracted / "m.csv"), "run": str(folder)}
    cell = Cell("one-class", "own", "part", "tuned", TAG, 0)
    spec = ScoreSpec(
        cell=cell, method=method, backbone=BACKBONE, **place,
        train_features=str(extracted / "train" / "meta.json"), features=str(extracted / "test" / "meta.json"),
    )  # fmt: skip
    score_run(spec, "cpu", 1)
    evaluate_run(EvaluateSpec(cell=cell, **place), 1)
    return read_record(folder / "run.json")


FEW = {"epochs": 2, "batch_size": 4, "checkpoints": 2, "flow_steps": 1, "hidden_ratio": 0.5}


@pytest.mark.parametrize(
    ("method", "settings", "metric"),
    [
        ("padim", {}, "pixel_auroc"),
        ("fastflow", FEW, "pixel_aupro"),
        ("simplenet", {"epochs": 1, "embedding_dim": 16, "checkpoints": 1}, "image_ap"),
        ("hgad", {"epochs": 1, "coupling_blocks": 1, "condition_dim": 8, "meta_epochs": 1}, "image_auroc"),
        ("padim", {}, "false_alarms_fair"),
        ("fastflow", FEW, "miou_nfa_anomalous"),
    ],
)
def test_the_best_value_is_that_of_the_run(extracted, tmp_path, method, settings, metric):
    found = search(extracted, tmp_path / "study", method, settings, metric=metric)
    assert found.study.metric == metric
    best = max if find_metric(metric).metric.higher_is_better else min
    assert found.best.value == best(trial.value for trial in found.trials if trial.state == "complete")
    assert [trial.state for trial in found.trials].count("complete") >= 1
    train(extracted, tmp_path / "study", tmp_path / "run", method, settings)
    record = evaluate(extracted, tmp_path / "run", method)
    assert record.selections["last"].metrics[metric] == found.best.value == record.search.value
    assert {name: record.settings[name] for name in found.best.settings} == found.best.settings
    assert (
        record.specs.study == found.spec == study_spec(extracted, tmp_path / "study", method, settings, metric=metric)
    )
    assert [spec.view for spec in record.specs.extract] == ["train", "test"]
    assert record.specs.train.study == str(tmp_path / "study" / "study.json")


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
    with pytest.raises(NfbenchError, match="at least two normal images and two anomalous images"):
        search(tmp_path, tmp_path / "study", objective="validation", metric="image_auroc")
    assert not (tmp_path / "study" / "description.json").exists()


def test_another_seed_and_other_code_make_another_study(extracted, tmp_path):
    first = search(extracted, tmp_path, trials=3)
    assert search(extracted, tmp_path, trials=3).trials == first.trials
    other = search(extracted, tmp_path, trials=3, seed=1)
    assert len(other.trials) == 3
    assert other.trials[1:] != first.trials[1:]
    edited = search(extracted, tmp_path, code="edited", trials=3)
    assert [trial.started for trial in edited.trials] > [trial.finished for trial in other.trials]
    assert search(extracted, tmp_path, trials=3).trials == first.trials


def test_a_metric_that_the_method_does_not_have_fails_its_trials(extracted, tmp_path):
    with pytest.raises(NfbenchError, match=r"'miou_nfa' of a search is not defined on its 8 images; the method has no"):
        search(extracted, tmp_path, metric="miou_nfa", trials=1)


def test_importances_of_enough_trials(extracted, tmp_path):
    found = search(extracted, tmp_path, trials=8, pruning=False)
    assert set(found.importances) == {"reduced_dimensions", "regularization"}
    assert sum(found.importances.values()) == pytest.approx(1, abs=1e-4)


def test_a_study_that_is_not_done_is_not_summed_up(extracted, tmp_path):
    search(extracted, tmp_path, trials=2)
    more = study_spec(extracted, tmp_path, trials=3)
    with pytest.raises(NfbenchError, match=r"description\.json describes a search with other settings"):
        summarize_study(SummarizeSpec(study=more))
    create_study(more)
    with pytest.raises(NfbenchError, match="2 of 3 trials have finished"):
        summarize_study(SummarizeSpec(study=more))
    start = read_sealed(StudyStart, tmp_path / "description.json")
    assert (start.spec, start.validation) == (more, [])


def test_a_study_of_another_run_is_refused(extracted, tmp_path):
    search(extracted, tmp_path, trials=1)
    with pytest.raises(NfbenchError, match="is the study of one-class/own/part/tuned, not of one-class/own/part/else"):
        train(extracted, tmp_path, tmp_path / "run", "padim", {}, variant="else")


@pytest.mark.parametrize("damage", ["{", '{"study": {}}'])
def test_a_damaged_record_is_named(tmp_path, damage):
    (tmp_path / "study.json").write_text(damage)
    with pytest.raises(NfbenchError, match=r"study\.json"):
        read_study(tmp_path / "study.json")
