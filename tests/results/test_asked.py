"""Results of other settings, images or code than requested are refused wherever they are read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.plan.origin import digest_of, expected_runs
from nfbench.plan.plan import Plan
from nfbench.results.aggregate import read_results
from nfbench.results.progress import describe_progress
from nfbench.stages import train as training
from nfbench.stages.gather import aggregate_results, stock_of
from nfbench.stages.report import write_report
from nfbench.stages.tables import table_of
from nfbench.stages.track import track_runs
from tests.in_process import run_job
from tests.results.tiny import OTHER, PART, TAG


def with_settings(plan, **settings):
    variant = plan.bench.variants["tiny"]
    changed = variant.model_copy(update={"settings": {**variant.settings, **settings}})
    return Plan(plan.bench.model_copy(update={"variants": {**plan.bench.variants, "tiny": changed}}))


def with_fewer_images(plan):
    dataset = plan.bench.datasets["own"].model_copy(update={"max_train": 4})
    return Plan(plan.bench.model_copy(update={"datasets": {**plan.bench.datasets, "own": dataset}}))


def with_other_code(plan, monkeypatch):
    monkeypatch.setattr("nfbench.plan.plan.code_of", lambda spec: f"other-{spec.stage}")
    return Plan(plan.bench)


CHANGES = {
    "settings": lambda plan, monkeypatch: with_settings(plan, epochs=3),
    "a default that is written": lambda plan, monkeypatch: with_settings(plan, betas=[0.9, 0.999]),
    "images": lambda plan, monkeypatch: with_fewer_images(plan),
    "code": with_other_code,
}


@pytest.fixture(params=CHANGES.values(), ids=CHANGES)
def edited(request, plan, monkeypatch):
    """A plan of another clone, or of the same after an edit, on the results that are there."""
    return request.param(plan, monkeypatch)


def test_runs_of_another_plan_are_stale(edited):
    stock = stock_of(edited, "tiny")
    assert {account.status for account in stock.accounts} == {"stale"}
    assert stock.records == {}
    printed = "\n".join(describe_progress(stock, edited.paths))
    assert "0 of 2 cells done (2 stale)" in printed
    assert f"stale: {PART}: {edited.paths.run_record(PART)} was made with other settings, images or code" in printed


def test_results_of_another_plan_are_refused(edited, plan):
    ledger = edited.paths.experiment("tiny", "ledger.csv")
    before = ledger.read_text()
    with pytest.raises(NfbenchError, match=r"2 of 2 cells are not done: .*\(stale: .*run\.json was made with other"):
        aggregate_results(edited.aggregate("tiny").spec)
    ledger.write_text(before)
    with pytest.raises(NfbenchError, match=r"results\.parquet was aggregated from other runs, settings"):
        table_of(edited.table("tiny", "numbers").spec)
    with pytest.raises(NfbenchError, match=r"run\.json was made with other settings, images or code"):
        run_job(edited.figure("tiny", "curves"))


def test_report_and_tracking_leave_runs_of_another_plan_out(edited, monkeypatch):
    page = write_report(edited.report("tiny").spec, stock_of(edited, "tiny"), 0).read_text()
    assert page.count("was made with other settings, images or code") == 2
    monkeypatch.setattr("nfbench.stages.track.write_tracked", lambda spec, stock, summary: stock)
    assert track_runs(edited.track("tiny").spec).records == {}


def test_jobs_of_another_plan_run_again(edited):
    assert {replace(job).state for job in (edited.train(PART), edited.evaluate(PART))} == {"stale"}


def test_jobs_refuse_what_was_made_for_another_plan(edited, plan):
    """Snakemake makes it again first; a job that is started by hand, or before an orphan ends, says so."""
    with pytest.raises(NfbenchError, match="was made with other settings, images or code than score_run expects"):
        run_job(edited.score(PART))
    run_job(plan.score(PART))
    with pytest.raises(NfbenchError, match="was made with other settings, images or code than evaluate_run expects"):
        run_job(edited.evaluate(PART))
    if edited.extract(TAG, "own", "part", "train").state == "stale":
        with pytest.raises(NfbenchError, match="was made with other settings, images or code than train_flow"):
            run_job(edited.train(PART))


def test_a_table_of_the_results_of_another_experiment_is_refused(plan):
    own, half = (plan.paths.experiment(name, "results.parquet") for name in ("tiny", "half"))
    kept = own.read_bytes()
    shutil.copy(half, own)
    try:
        with pytest.raises(NfbenchError, match=r"tiny/results\.parquet was aggregated from other runs"):
            table_of(plan.table("tiny", "numbers").spec)
        assert len(read_results(own, digest_of(plan.aggregate("half").spec)))
    finally:
        own.write_bytes(kept)


def test_expected_runs_name_each_cell_with_its_own_spec(plan):
    spec = plan.aggregate("tiny").spec
    expected = expected_runs(spec.cells, spec.origin)
    assert expected == {cell: digest_of(plan.evaluate(cell).spec) for cell in (PART, OTHER)}
    assert len(set(expected.values())) == 2
    assert set(expected_runs(spec.cells, "").values()) == {""}


@pytest.fixture
def other_run(plan, tmp_path):
    """Specs of two trainings with other settings into one folder."""
    specs = [with_settings(plan, epochs=epochs).train(PART).spec for epochs in (1, 3)]
    return [spec.model_copy(update={"run": str(tmp_path / "run"), "origin": ""}) for spec in specs]


def settings_in(run):
    return json.loads((run / "training.json").read_text())["settings"]["epochs"]


def test_of_two_trainings_into_one_folder_the_later_one_has_it(other_run, monkeypatch):
    """The first is about to publish when the second begins, and ends."""
    first, second = other_run
    save, begun = training.save_state, []

    def begin_second(path, state):
        if not begun:
            begun.append(path)
            training.train_flow(second, "cpu", 1)
        save(path, state)

    monkeypatch.setattr(training, "save_state", begin_second)
    with pytest.raises(NfbenchError, match="a training with other settings, images or code was started in this folder"):
        training.train_flow(first, "cpu", 1)
    assert settings_in(Path(first.run)) == 3
    assert sorted(path.name for path in Path(first.run).iterdir() if path.is_file()) == [
        "checkpoints.safetensors", "held_out.safetensors", "history.csv", "model.safetensors", "training.json"
    ]  # fmt: skip


def test_an_orphan_that_ends_first_is_replaced(other_run, monkeypatch):
    """The later training began before the orphan looked at the folder for the last time."""
    orphan, later = other_run
    save, begun = training.save_state, []

    def end_orphan(path, state):
        if not begun:
            begun.append(path)
            claim = Path(later.run) / ".resume" / "claim"
            mine = claim.read_text()
            training.train_flow(orphan, "cpu", 1)
            claim.parent.mkdir(exist_ok=True)
            claim.write_text(mine)
            path.parent.mkdir(parents=True, exist_ok=True)
        save(path, state)

    monkeypatch.setattr(training, "save_state", end_orphan)
    training.train_flow(later, "cpu", 1)
    assert settings_in(Path(later.run)) == 3


def test_scores_of_a_training_that_was_replaced_meanwhile_are_an_error(plan, monkeypatch):
    source = plan.paths.run_record(PART).with_name("training.json")
    kept = source.read_bytes()
    other = source.read_bytes().replace(b'"n_val"', b'"n_train_"', 1)
    record = plan.paths.run_record(PART).read_bytes()
    monkeypatch.setattr("nfbench.stages.score.likelihood_histograms", lambda *_: source.write_bytes(other) and [])
    try:
        with pytest.raises(NfbenchError, match=r"training\.json"):
            run_job(plan.score(PART))
        assert plan.paths.run_record(PART).read_bytes() == record
    finally:
        source.write_bytes(kept)


def test_tables_of_another_checkout_are_made_again_when_they_are_of_other_settings(plan, monkeypatch):
    """Snakemake's own metadata are not there in that checkout."""
    run_job(plan.table("tiny", "numbers"))
    assert replace(plan.table("tiny", "numbers")).state == "done"
    assert replace(plan.aggregate("tiny")).state == "done"
    experiment = plan.bench.experiment("tiny")
    table = experiment.tables["numbers"].model_copy(update={"metric": "pixel_auroc"})
    changed = experiment.model_copy(update={"tables": {"numbers": table}})
    other = Plan(plan.bench.model_copy(update={"experiments": {**plan.bench.experiments, "tiny": changed}}))
    assert other.table("tiny", "numbers").state == "stale"
    assert other.aggregate("tiny").state == "done"
    assert with_settings(plan, epochs=3).aggregate("tiny").state == "stale"
    assert with_other_code(plan, monkeypatch).table("tiny", "numbers").state == "stale"
    page = plan.paths.table("tiny", "numbers", "html")
    page.write_text(page.read_text()[:-20])
    assert replace(plan.table("tiny", "numbers")).state == "stale"
    assert not plan.table("tiny", "numbers").is_settled
    assert replace(plan.evaluate(PART)).is_settled
