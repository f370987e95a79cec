"""The workflow end to end: everything it leaves, a second run that does nothing, exact rebuilds, the report."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest
from nfbench.metrics import known_metrics
from nfbench.results.record import read_record
from nfbench.training.checkpoint import load_kept
from tests.in_process import run_nfbench

FIGURES = ("maps", "histograms", "curves", "segmentation", "thresholds", "calibration")
STAGES = (
    "extract_features",
    "extract_features",
    "train_flow",
    "score_run",
    "evaluate_run",
    "aggregate_results",
    "build_table",
)
pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def records(checkout):
    return sorted((checkout.folder / "results" / "runs").rglob("run.json"))


def test_results_tables_figures_and_ledger_are_there(finished):
    results = finished.folder / "results"
    table = pd.read_parquet(results / "experiments" / "smoke" / "results.parquet")
    measured = {
        named.name: named
        for named in known_metrics().values()
        if not (named.transductive or named.metric.needs_channels or named.metric.needs_samples)
    }
    assert len(table) == 4 * 3 * len(measured)  # 4 cells; last, val and oracle
    assert set(table.metric) == set(measured)
    assert (table.value >= 0).all()
    assert (table.value <= table.metric.map(lambda name: measured[name].metric.unit.largest)).all()
    ledger = pd.read_csv(results / "experiments" / "smoke" / "ledger.csv")
    assert ledger.status.tolist() == ["done"] * 4
    page = (results / "reports" / "smoke.html").read_text()
    assert "Smoke test with random weights" in page
    assert "data:image/webp" in page
    made = [path for folder in ("tables", "figures") for path in (results / folder / "smoke").iterdir()]
    names = {path.name for path in made}
    assert names == {
        *(f"smoke_{table}.{e}" for table in ("image_auroc", "pixel_auroc", "miou") for e in ("tex", "html", "csv")),
        *(f"smoke_{figure}.{ending}" for figure in FIGURES for ending in ("pdf", "png")),
    }
    assert all(path.stat().st_size > 500 for path in made)


def test_run_records_are_complete(finished):
    for path in records(finished):
        record = read_record(path)
        assert set(record.selections) == {"last", "val", "oracle"}
        assert record.settings["epochs"] == 2
        assert record.data.n_train + record.data.n_val == 12
        assert record.data.n_regions >= 8
        assert record.features.recipe.weights == "random"
        assert record.parameters["total"] == record.parameters["flow"] + record.parameters["normalization"]
        assert record.seconds["train"] > 0
        assert record.peak_memory_mb["train_host"] > 50
        assert set(record.provenance) == {"extract", "train", "score", "evaluate"}
        assert record.provenance["train"]["command"].startswith("nfbench --log")
        oracle, last = record.selections["oracle"].metrics, record.selections["last"].metrics
        for name, value in last.items():
            assert known_metrics()[name].sign * (oracle[name] - value) >= 0
        assert set(record.segmentation.false_alarms) == {"fair", "nfa", "nfa_guard"}


def test_last_model_lies_on_disk_once(finished):
    """A memory bank's only model may take a gigabyte."""
    for path in records(finished):
        record = read_record(path)
        kept = load_kept(path.with_name("checkpoints.safetensors"))
        assert list(kept) == [epoch for epoch in record.by_epoch if epoch < record.settings["epochs"]]
        assert record.settings["epochs"] in record.by_epoch


def test_own_metric_of_a_method_heads_its_column(finished):
    """The table of mean IoU scores U-Flow at NFA < 1, the others at their fair threshold, and says so."""
    text = (finished.folder / "results" / "tables" / "smoke" / "smoke_miou.tex").read_text()
    assert r"NFA $<$ 1" in text
    assert "of U-Flow, mean IoU of the a contrario mask" in text
    values = pd.read_csv(finished.folder / "results" / "tables" / "smoke" / "smoke_miou.csv")
    for path in records(finished):
        record = read_record(path)
        metric = "miou_nfa" if record.cell.variant_of == "uflow" else "miou_fair"
        row = values[(values.category == record.cell.category) & (values.method == record.cell.method)]
        assert row["mean"].item() == pytest.approx(100 * record.selections["last"].metrics[metric])


def test_artifacts_agree_with_the_record(finished):
    for path in records(finished):
        record, folder = read_record(path), path.parent
        regions = pd.read_csv(folder / "regions.csv")
        found = regions[(regions["map"] == "nfa") & (regions.label == 0)].groupby("image").size()
        assert found.to_dict() == record.segmentation.false_alarms["nfa"].images
        assert (regions.log_nfa < 0).all()
        curve = pd.read_csv(folder / "miou.csv")
        assert set(curve["map"]) == {"score", "nfa"}
        last = record.selections["last"].metrics
        assert curve[curve["map"] == "score"]["all"].max() <= last["miou_oracle"] + 1e-9
        calibration = pd.read_csv(folder / "calibration.csv")
        assert set(calibration.images) == {"training", "test"}
        examples = np.load(folder / "examples.npz")
        assert len(examples["index"]) == len(examples["maps"]) == len(examples["nfa"])
        images = [entry for entry in read_manifest(finished.folder / record.data.manifest) if entry.split == "test"]
        assert not any(images[number].label for number in examples["index"][examples["suspect"]])
        assert all(images[number].label for number in examples["index"][examples["miss"]])


def test_random_weights_are_printed_in_every_table(finished):
    for ending in ("tex", "html"):
        for path in (finished.folder / "results" / "tables" / "smoke").glob(f"*.{ending}"):
            assert "RANDOM weights" in path.read_text()


def test_nothing_else_is_left_behind(finished):
    assert list((finished.folder / "results").rglob(".*")) == []


def test_second_run_does_nothing(finished):
    assert "Nothing to be done" in finished.snakemake("smoke")


@pytest.mark.parametrize(
    ("file", "found"), [("run.json", 1), ("scores.csv", 0), ("training.json", 0), ("meta.json", 0)]
)
def test_run_records_are_asked_for_and_intermediates_are_not(finished, file, found):
    path = next((finished.folder / "results").rglob(file))
    away = path.rename(path.with_suffix(".away"))
    jobs = finished.jobs("smoke")
    away.rename(path)
    again = {
        "score_run": 1, "evaluate_run": 1, "aggregate_results": 1, "build_table": 3, "build_figure": 6,
        "build_report": 1, "smoke": 1, "total": 14,
    }  # fmt: skip
    assert jobs == (again if found else {})


def test_deleting_a_table_rebuilds_only_it_and_its_name_alone_is_a_target(finished):
    (finished.folder / "results" / "tables" / "smoke" / "smoke_image_auroc.csv").unlink()
    assert finished.jobs("smoke") == {"build_table": 1, "smoke": 1, "total": 2}
    named = "results/tables/smoke_image_auroc.csv"
    assert finished.jobs(named) == {"build_table": 1, "copy_by_name": 1, "total": 2}
    finished.snakemake(named)
    copied = finished.folder / named
    assert copied.read_text() == (copied.parent / "smoke" / copied.name).read_text()
    copied.unlink()


def test_report_builds(finished):
    finished.snakemake("smoke", "--report", "results/report.html")
    report = (finished.folder / "results" / "report.html").read_text()
    assert "smoke_maps.png" in report
    assert "smoke_pixel_auroc" in report


def test_hole_in_the_results_is_refused_and_named(finished):
    path = records(finished)[0]
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(NfbenchError, match="1 of 4 cells are not done: one-class/synthetic-smoke/fabric/fastflow-"):
        run_nfbench(finished.folder, "aggregate_results", "smoke")
    away.rename(path)


def test_records_of_another_form_are_named(finished, tmp_path):
    record = json.loads(records(finished)[0].read_text())
    del record["settings"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(NfbenchError, match=r"run.json: 'settings': Field required"):
        read_record(tmp_path / "run.json")


def test_commands_that_explain_a_cell_give_the_same_number_again(finished):
    cell = ["explain", "smoke_pixel_auroc", "fabric", "fastflow-smoke"]
    run_nfbench(finished.folder, "aggregate_results", "smoke")  # after the hole of another test
    before = run_nfbench(finished.folder, *cell)
    commands = [shlex.split(line)[2:] for line in before.splitlines() if line.startswith("  $ nfbench ")]
    stages = [next(word for word in command if word in STAGES) for command in commands]
    assert stages == list(STAGES)
    runs = finished.folder / "results/runs/one-class/synthetic-smoke/fabric/fastflow-smoke"
    for path in runs.rglob("*.safetensors"):
        path.unlink()
    for command in commands:
        run_nfbench(finished.folder, *command)
    assert run_nfbench(finished.folder, *cell) == before

    own = '{"categories": ["fabric"]}'
    run_nfbench(finished.folder, "aggregate_results", "smoke", "--config", own)
    assert shlex.split(run_nfbench(finished.folder, *cell, "--config", own).splitlines()[-2])[-1] == own
    with pytest.raises(NfbenchError, match=r"results\.parquet was aggregated from other runs"):
        run_nfbench(finished.folder, *cell)
