"""Runs and studies in the store below results_root: their contents, and imports killed at any moment."""

import json
import math
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.cli.load import load_plan
from nfbench.core.files import write_text
from nfbench.core.seals import seal_of
from nfbench.stages.track import track_runs
from tests.made_up import MadeUp, spoil, write_listing
from tests.mlflow_server import MlflowClient, Tracked

pytestmark = pytest.mark.slow

DATABASE = Path("results/mlflow/mlflow.db")
CELL = "one-class/mvtec_ad/bottle/fastflow-wide/resnet18.tv_in1k@256/seed0"
WRITES = ("create_experiment", "create_run", "log_batch", "set_tag", "set_terminated", "log_artifact", "delete_run")


class Died(BaseException):
    """As sudden as SIGKILL: nothing catches it."""


def track(*arguments):
    return CliRunner().invoke(app, ["track_runs", *arguments], catch_exceptions=True)


def tracked(experiment="made_up"):
    return Tracked(f"sqlite:///{DATABASE.absolute()}", experiment)


@pytest.fixture
def made(tmp_path, monkeypatch, empty_store):
    """Two runs, and a study of two trials, in the folder that the commands are called in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    methods, search = {"uflow": "uflow", "fastflow-wide": "fastflow"}, {"backbones": ["resnet18.tv_in1k"]}
    made = MadeUp(tmp_path, methods, categories=("bottle",), seeds=1, searches={"fastflow-wide": search}).write()
    (tmp_path / "results" / "mlflow").mkdir()
    shutil.copy(empty_store, tmp_path / DATABASE)
    table = made.paths.table("made_up", "made_up_image_auroc", "csv")
    table.parent.mkdir(parents=True)
    table.write_text("a,b\n")
    write_study(made, study())
    return made


def study(**changes):
    trials = [
        {"number": 0, "state": "complete", "params": {"lr": 0.001, "prior": "<t>"}, "value": 1.25,
         "intermediate": {"10": 1.0, "20": 1.25}, "seconds": 12.5, "worker": 0, "started": "2026-01-02T03:04:05+00:00",
         "finished": "2026-01-02T03:04:17.500000+00:00"},
        {"number": 1, "state": "pruned", "params": {"lr": 0.5, "prior": "<t>"}, "value": None,
         "intermediate": {"10": -3.0}, "seconds": 2.0, "worker": 1, "started": "2026-01-02T03:04:05+00:00",
         "finished": "2026-01-02T03:04:07+00:00"},
    ]  # fmt: skip
    cell = {"setting": "one-class", "dataset": "mvtec_ad", "category": "bottle", "method": "fastflow"}
    described = {
        "name": "fastflow-wide", "cell": cell, "backbones": ["resnet18.tv_in1k@256"], "objective": "log_likelihood",
        "metric": "log_likelihood", "direction": "maximize", "budget": 30, "budget_seconds": None, "workers": 2,
        "sampler": "tpe", "seed": 0, "space": {"lr": {"low": 0.001, "high": 1.0, "log": True}},
    }  # fmt: skip
    spec = {
        "name": "fastflow-wide", "variant": {"method": "fastflow", "search": {"backbones": ["resnet18.tv_in1k"]}},
        "dataset": "mvtec_ad", "category": "bottle", "reader": "mvtec_ad", "manifest": "m.csv",
        "backbones": [{"tag": "resnet18.tv_in1k@256", "features": "meta.json"}], "study": "study",
    }  # fmt: skip
    params, backbone = trials[0]["params"], described["backbones"][0]
    best = {"number": 0, "params": params, "settings": params, "backbone": backbone, "value": 1.25}
    made = {
        "spec": spec, "study": described, "trials": trials, "best": best, "by_backbone": {backbone: best},
        "importances": {}, "validation": [], "seconds": 14.5, "provenance": {"commit": "d" * 40},
    }  # fmt: skip
    return {**made, **changes}


def write_study(made, content):
    path = made.paths.root / "studies/one-class/mvtec_ad/bottle/fastflow-wide/study.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "seal": seal_of(content)}))
    return path


def test_a_run_holds_its_record_and_its_history(made):
    assert track().exit_code == 0
    found = tracked()
    run = found.run(f"run {CELL}")
    record = json.loads((made.paths.root / "runs" / CELL / "run.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 11_000  # seconds of training and of scoring
    assert run.data.params | {
        "epochs": "16", "image_score": "max", "category": "bottle", "seed": "0", "variant_of": "fastflow",
        "features.levels": "[1, 2, 3]", "data.n_train": "90", "data.anomalies": "null",
    } == run.data.params  # fmt: skip
    for selection in ("last", "val", "oracle"):
        for metric, value in record["selections"][selection]["metrics"].items():
            assert run.data.metrics[f"{selection}/{metric}"] == pytest.approx(value, abs=1e-12)
    assert run.data.metrics["seconds/train"] == 10.0
    epoch = record["selections"]["oracle"]["epoch"]["pixel_auroc"]
    assert list(found.history(run, "oracle/pixel_auroc")) == [epoch]
    likelihoods = found.history(run, "history/val_log_likelihood")
    assert likelihoods[4] == pytest.approx(-1.45)
    assert set(likelihoods) == set(found.history(run, "history/loss")) == set(range(1, 17))
    assert run.data.tags | {
        "category": "bottle", "sha256.weights": "a" * 64, "train.commit": "c" * 40, "dirty": "false",
        "evaluate.versions": "nfbench 0, python 3.11, torch 2", "train.machine": "CPU a CPU, 1 thread",
        "mlflow.source.git.commit": "c" * 40, "nfbench.state": "complete",
    } == run.data.tags  # fmt: skip


def test_a_run_says_by_what_search_its_settings_were_found(made):
    assert track().exit_code == 0
    found = tracked()
    run = found.run(f"run {CELL}")
    assert run.data.params | {
        "search.objective": "log_likelihood", "search.metric": "log_likelihood", "search.trial": "3",
        "search.trials.complete": "20", "search.trials.pruned": "9", "search.seconds": "12.5", "search.chosen": "true",
        "search.n_validation": "0",
    } == run.data.params  # fmt: skip
    assert run.data.tags["search.study"] == str(made.paths.study_of(made.cells[1]))
    other = found.run(f"run {made.cells[0]}")
    assert not [name for name in (*other.data.params, *other.data.tags) if name.startswith("search")]


def test_the_experiment_is_a_run_with_its_tables_above_the_others(made):
    assert track().exit_code == 0
    found = tracked()
    (parent,) = found.of_kind("experiment")
    assert parent.data.tags["runs"] == "2 of 2"
    assert parent.info.status == "FINISHED"
    for run in found.of_kind("run") + found.of_kind("study"):
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    files = found.client.list_artifacts(parent.info.run_id, "tables")
    assert [file.path for file in files] == ["tables/made_up_image_auroc.csv"]


def test_trials_are_nested_in_their_study(made):
    assert track().exit_code == 0
    found = tracked()
    (run,) = found.of_kind("study")
    best, pruned = (found.run(f"trial one-class/mvtec_ad/bottle/fastflow-wide#{number}") for number in (0, 1))
    assert {trial.data.tags["mlflow.parentRunId"] for trial in (best, pruned)} == {run.info.run_id}
    assert run.data.params["best.lr"] == "0.001"
    assert (run.data.metrics["best/value"], run.data.metrics["trials/pruned"]) == (1.25, 1)
    assert (best.info.status, pruned.info.status) == ("FINISHED", "KILLED")
    assert best.data.params == {"lr": "0.001", "prior": "<t>"}
    assert found.history(best, "intermediate") == {10: 1.0, 20: 1.25}
    assert best.data.metrics["value"] == 1.25
    assert "value" not in pruned.data.metrics
    assert best.info.end_time - best.info.start_time == 12_500


def test_again_changes_nothing(made):
    assert "3 new, 0 replaced, 0 unchanged" in track().output
    before = tracked()
    assert "0 new, 0 replaced, 3 unchanged" in track().output
    after = tracked()
    assert (after.ids, after.content, after.deleted) == (before.ids, before.content, [])
    assert [run.info for run in after.runs] == [run.info for run in before.runs]


def test_what_changed_is_replaced_and_nothing_else(made):
    track()
    before = tracked().ids
    spoil(made.paths.root / "runs" / CELL / "run.json", contour=0.75, seconds={"train": 99.0, "score": 1.0})
    write_study(made, study(seconds=15.5))
    assert "0 new, 2 replaced, 1 unchanged" in track().output
    after = tracked()
    assert after.run(f"run {CELL}").data.metrics["seconds/train"] == 99.0
    changed = {key for key, run_id in after.ids.items() if before[key] != run_id}
    assert {key.split()[0] for key in changed} == {"run", "study", "trial"}
    assert len(changed) == 4
    assert f"run {CELL}" in changed


def test_a_table_that_changed_is_replaced_in_place(made):
    track()
    before = tracked().ids
    made.paths.table("made_up", "made_up_image_auroc", "csv").write_text("new")
    track()
    after = tracked()
    assert after.ids == before
    parent = after.ids["experiment made_up"]
    assert Path(after.client.download_artifacts(parent, "tables/made_up_image_auroc.csv")).read_text() == "new"


def test_runs_that_are_not_done_are_named_and_follow_later(made):
    path = made.paths.root / "runs" / CELL / "run.json"
    aside = path.rename(path.with_suffix(".aside"))
    assert "1 of 2 runs and 1 studies of 'made_up'" in track().output
    aside.rename(path)
    assert "1 new, 0 replaced, 2 unchanged" in track().output
    path.rename(aside)
    assert track().exit_code == 0
    assert f"run {CELL}" in tracked().ids  # its record may be on its way


def test_an_experiment_without_runs_is_tracked_by_its_tables(made):
    counted = {"title": "Counted", "tables": {"counted": {
        "kind": "parameters", "title": "Counted",
        "rows": [{"method": "uflow", "backbone": {"name": "resnet18.a1_in1k", "input_size": 448}}],
    }}}  # fmt: skip
    made.experiment_file.with_name("counted.yaml").write_text(json.dumps(counted))
    done = track("counted")
    assert done.exit_code == 1
    assert "'snakemake --cores all counted'" in str(done.exception)
    write_text(made.paths.table("counted", "counted", "csv"), "a,b\n")
    done = track("counted")
    assert done.exit_code == 0, done.exception
    assert "the tables of 'counted', which has no runs" in done.output
    assert "the tables of 'counted'" in track_runs(load_plan().track("counted").spec)
    assert json.loads((made.paths.tracking / "counted.json").read_text())["runs"] == 0
    found = tracked("counted")
    (parent,) = found.runs
    assert (parent.info.status, parent.data.tags["nfbench.state"]) == ("FINISHED", "complete")
    assert [file.path for file in found.client.list_artifacts(parent.info.run_id, "tables")] == ["tables/counted.csv"]


def test_undefined_and_infinite_numbers_are_nan_in_mlflow(made):
    path = made.paths.root / "runs" / CELL / "run.json"
    record = json.loads(path.read_text())
    record["selections"]["last"]["metrics"]["pixel_auroc"] = None
    spoil(path, selections=record["selections"])
    history = "epoch,loss,val_log_likelihood,lr,seconds\n1,nan,,0.1,1\n2,inf,,0.1,1\n3,0.5,,0.1,1\n"
    path.with_name("history.csv").write_text(history)
    write_listing(path.with_name("training.json"))
    assert track().exit_code == 0
    found = tracked()
    run = found.run(f"run {CELL}")
    assert math.isnan(run.data.metrics["last/pixel_auroc"])
    assert [math.isnan(value) for value in found.history(run, "history/loss").values()] == [True, True, False]
    assert "history/val_log_likelihood" not in run.data.metrics
    assert "0 new, 0 replaced, 3 unchanged" in track().output


def test_what_mlflow_limits_is_split_or_marked(made):
    path = made.paths.root / "runs" / CELL / "run.json"
    settings = {"epochs": 2500, "long": "x" * 7000, "odd <key>": 1, **{f"s{number}": number for number in range(250)}}
    spoil(path, settings=settings)
    rows = "".join(f"{epoch},{1 / epoch},,,1\n" for epoch in range(1, 2501))
    path.with_name("history.csv").write_text("epoch,loss,val_log_likelihood,lr,seconds\n" + rows)
    write_listing(path.with_name("training.json"))
    assert track().exit_code == 0
    found = tracked()
    run = found.run(f"run {CELL}")
    assert run.data.params["s249"] == "249"
    assert run.data.params["odd -3c-key-3e-"] == "1"
    assert len(run.data.params["long"]) == 6000
    assert run.data.params["long"].endswith("x ... (7000 characters, the rest is in the record)")
    losses = found.history(run, "history/loss")
    assert len(losses) == 2500
    assert losses[2500] == pytest.approx(1 / 2500)


def test_what_was_deleted_in_mlflow_comes_back(made):
    track()
    before = tracked()
    trial = "trial one-class/mvtec_ad/bottle/fastflow-wide#1"
    for key in ("experiment made_up", f"run {CELL}", trial):
        before.client.delete_run(before.ids[key])
    assert track().exit_code == 0
    after = tracked()
    assert after.content == before.content
    before.client.delete_experiment(before.runs[0].info.experiment_id)
    assert track().exit_code == 0
    assert tracked().content == before.content


def test_runs_of_others_are_left_alone(made):
    track()
    found = tracked()
    other = found.client.create_run(found.runs[0].info.experiment_id, run_name="by hand")
    assert track().exit_code == 0
    assert found.client.get_run(other.info.run_id).info.lifecycle_stage == "active"


def test_results_of_another_folder_do_not_replace_these(made):
    track()
    before = tracked().content
    shutil.copytree("results", "other")
    moved = json.dumps({"results_root": "other"})
    done = track("--config", moved)
    assert done.exit_code == 1
    for part in ("'made_up'", "--name", str(made.folder / "results"), str(made.folder / "other")):
        assert part in str(done.exception)
    assert track("--config", moved, "--name", "moved").exit_code == 0
    assert tracked().content == before


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda file: file.pop("best"), "'best': Field required"),
        (lambda file: file["study"].pop("sampler"), "'study.sampler': Field required"),
        (lambda file: file["trials"][1].pop("worker"), "'trials.1.worker': Field required"),
        (lambda file: file["trials"][0].update(value=None), "'trials.0': a complete trial needs a value"),
        (lambda file: file["trials"][1].update(number=0), "trial 0 appears more than once"),
        (lambda file: file["trials"][1].update(state="running"), "'trials.1.state': Input should be 'complete'"),
        (lambda file: file.update(seconds=math.nan), "'seconds': Input should be a finite number"),
    ],
)
def test_a_study_that_is_not_whole_is_an_error_that_names_file_and_key(made, spoilt, said):
    content = study()
    spoilt(content)
    path = write_study(made, content)
    done = track()
    assert done.exit_code == 1
    assert str(path.relative_to(made.folder)) in str(done.exception)
    assert said in str(done.exception)


def test_a_history_that_has_changed_or_is_gone_is_named(made):
    path = made.paths.root / "runs" / CELL / "history.csv"
    whole = path.read_text()
    path.write_text("step,loss\n1,2\n")
    found = str(track().exception)
    assert found.startswith("all but 1 of 'made_up' are tracked: ")
    assert f"{CELL}: {path} has changed since it was written" in found
    path.write_text(whole)
    assert "1 new" in track().output
    path.unlink()
    assert f"{path} is missing" in str(track().exception)


@pytest.mark.slow
def test_an_import_that_dies_at_any_moment_is_completed_by_the_next(made, monkeypatch):
    """An import dies after each write in turn, without the answer; the next import leaves the store of a single one."""
    originals = {name: getattr(MlflowClient, name) for name in WRITES}
    written, dies_after = 0, math.inf

    def counted(name):
        def call(*arguments, **named):
            nonlocal written
            result = originals[name](*arguments, **named)
            written += 1
            if written == dies_after:
                raise Died
            return result

        return call

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, counted(name))
    made.paths.run_record(made.cells[0]).unlink()  # one run is enough, and a study of two trials
    assert track().exit_code == 0
    whole, steps = tracked(), written
    assert steps > 15
    for dies_after in range(1, steps + 1):
        name = f"dies-after-{dies_after}"
        written = 0
        with pytest.raises(Died):
            track("--name", name)
        written = -math.inf
        assert tracked(name).ids or dies_after == 1  # no run is there twice, not even now
        assert track("--name", name).exit_code == 0
        again = tracked(name)
        assert len(again.ids) == len(whole.ids)
        assert str(again.content).replace(name, "made_up") == str(whole.content)


def test_a_store_is_made_whole_and_what_was_half_made_is_removed(empty_store):
    assert [path.name for path in empty_store.parent.iterdir()] == [DATABASE.name]
    assert MlflowClient(f"sqlite:///{empty_store}").search_experiments()


def test_a_store_that_is_no_database_is_named_with_what_to_do(made):
    DATABASE.write_text("no database " * 100)
    done = track()
    assert done.exit_code == 1
    assert str(DATABASE) in str(done.exception)
    assert "results/mlflow, which is rebuilt" in str(done.exception)


def test_a_folder_of_files_is_refused_with_what_to_do(made, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    done = track()
    assert done.exit_code == 1
    assert "./mlruns" in str(done.exception)
    assert "unset" in str(done.exception)
