"""Experiments that reproduce tables: their grids, what Snakemake makes of them, and keys that are wrong."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.config import Experiment, load_bench, validate
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.plan.cells import expand
from nfbench.plan.plan import Plan
from tests.in_process import planned_jobs, run_experiment
from tests.plan.test_jobs import jobs_of
from tests.workflow.conftest import Checkout

EXPERIMENTS = Path(__file__).parents[2] / "workflow" / "experiments"
COMPARED = ("uflow_table1", "uflow_table2", "uflow_table3", "uflow_table7")
LOCAL = ("bottle", "transistor")


@pytest.fixture(scope="module")
def bench():
    return load_bench({}, EXPERIMENTS)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The plan of a checkout with the folders of two categories."""
    folder = tmp_path_factory.mktemp("data")
    for category in LOCAL:
        (folder / "mvtec_ad" / category / "train" / "good").mkdir(parents=True)
    return Plan(load_bench({"data_root": str(folder)}, EXPERIMENTS))


def cells(bench, name, found=LOCAL):
    return expand(bench, name, lambda dataset: list(found))


def test_four_tables_share_all_runs(bench):
    found = [cells(bench, name) for name in COMPARED]
    assert all(one == found[0] for one in found)
    assert len({cell.seed for cell in found[0]}) == 3


def test_cflow_takes_the_input_size_of_each_category(bench):
    every = find_dataset("mvtec_ad").categories
    tags = {c.category: c.backbone for c in cells(bench, "uflow_table1", every) if c.method == "cflow-all"}
    assert set(tags) == set(every)
    assert {tags[category].split("@")[1] for category in ("bottle", "grid", "zipper")} == {"512-l234-reflect"}
    assert {tags[category].split("@")[1] for category in ("cable", "pill")} == {"256-l234-reflect"}
    assert tags["transistor"] == "wide_resnet50_2.tv_in1k@128-l234-reflect"


def test_every_compared_method_is_trained_once_per_category(bench):
    found = cells(bench, "uflow_table1", ("bottle", "transistor", "cable"))
    assert len(found) == 9 * 3 * bench.experiment("uflow_table1").seeds
    assert len({(c.method, c.category, c.seed) for c in found}) == len(found)


@pytest.mark.parametrize(
    ("experiment", "jobs"),
    [
        (
            "uflow_table1",
            {"extract_features": 36, "train_flow": 54, "score_run": 54, "evaluate_run": 54, "build_table": 2},
        ),
        ("uflow_table7", {"train_flow": 54, "build_table": 2, "build_figure": 1}),
        ("simplenet_mvtec", {"extract_features": 28, "train_flow": 54, "build_table": 4}),
        ("uflow_table3", {"train_flow": 54, "build_table": 6, "build_figure": 3}),
        ("simplenet_backbones", {"extract_features": 16, "train_flow": 24, "build_table": 1}),
        ("simplenet_levels", {"extract_features": 24, "train_flow": 36, "build_table": 1}),
    ],
)
def test_jobs_on_two_categories(plan, experiment, jobs):
    found = Counter(job.stage for job in jobs_of(plan, experiment))
    assert {stage: found[stage] for stage in jobs} == jobs
    assert found["prepare_data"] == len(LOCAL)


def test_a_table_of_parameters_waits_for_no_other_job(plan):
    job = plan.table("uflow_table4", "uflow_table4")
    assert (job.before, job.inputs) == ((), [])
    assert {Path(path).parent.name for path in plan.outputs("uflow_table4")} == {"uflow_table4"}


@pytest.mark.workflow
def test_a_table_of_parameters_needs_no_data_and_is_made_again_for_another_variant(tmp_path):
    checkout = Checkout(tmp_path)
    path = checkout.folder / "workflow" / "experiments" / "uflow_table4.yaml"
    values = yaml.safe_load(path.read_text())
    rows = values["tables"]["uflow_table4"]["rows"]
    values["tables"]["uflow_table4"]["rows"] = [row for row in rows if row["method"] == "fastflow-cait"]
    path.write_text(yaml.safe_dump(values))
    run_experiment(checkout.folder, "uflow_table4", data_root="/nowhere")
    folder = checkout.folder / "results" / "tables" / "uflow_table4"
    made = {file.name: file.read_text() for file in folder.iterdir()}
    assert set(made) == {f"uflow_table4.{ending}" for ending in ("tex", "html", "csv")}
    assert "7074500,0,7074500,14.8,millions,none" in made["uflow_table4.csv"]
    assert planned_jobs(checkout.folder, "uflow_table4") == {}
    values["variants"]["fastflow-cait"]["settings"]["flow_steps"] = 10
    path.write_text(yaml.safe_dump(values))
    assert planned_jobs(checkout.folder, "uflow_table4")["build_table"] == 1


def test_a_table_of_parameters_is_shown_and_has_nothing_to_gather(tmp_path, monkeypatch):
    rows = [{"method": "uflow", "backbone": {"name": "resnet18.a1_in1k", "input_size": 448}}]
    small = {"title": "x", "tables": {"small": {"kind": "parameters", "title": "x", "rows": rows}}}
    (tmp_path / "workflow" / "experiments").mkdir(parents=True)
    (tmp_path / "workflow" / "experiments" / "small.yaml").write_text(yaml.safe_dump(small))
    (tmp_path / "config.yaml").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert "4,289,736" in CliRunner().invoke(app, ["show", "small"]).output
    done = CliRunner().invoke(app, ["aggregate_results", "small"])
    assert str(done.exception) == "experiment 'small' has no runs to gather; its tables do not need any"


MODEL = {"method": "uflow", "backbone": {"name": "resnet18.tv_in1k"}}
GRID = [{"methods": ["fastflow"], "backbones": ["resnet18.tv_in1k"], "datasets": {"mvtec_ad": "available"}}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"tables": {"t": {"kind": "paramters"}}},
            r"'tables\.t\.kind': unknown kind 'paramters'; did you mean 'parameters'\?",
        ),
        ({"tables": {"t": {"title": "x", "metrc": "y"}}}, r"unknown key 'tables\.t\.metrc'; did you mean 'metric'\?"),
        (
            {"tables": {"t": {"kind": "parameters", "title": "x", "rows": [{**MODEL, "metod": "uflow"}]}}},
            r"unknown key 'tables\.t\.rows\.0\.metod'; did you mean 'method'\?",
        ),
        (
            {"tables": {"t": {"kind": "backbones", "title": "x", "metric": "y"}}},
            r"unknown key 'tables\.t\.metric'; did you mean 'metrics'\?",
        ),
        (
            {"tables": {"t": {"kind": "backbones", "rows": [{"backbone": {"name": "x", "level": [1]}}]}}},
            r"unknown key 'tables\.t\.rows\.0\.backbone\.level'; did you mean 'levels'\?",
        ),
        ({"figures": {"f": {"kind": "sped"}}}, r"'figures\.f\.kind': unknown kind 'sped'; did you mean 'speed'\?"),
        ({"figures": {"f": {"kind": "x"}}}, r"'figures\.f\.kind': unknown kind 'x'; known: anomalies, .*, thresholds"),
        ({"figures": {"f": {}}}, r"'figures\.f\.kind': missing; known: anomalies, .*, thresholds"),
        ({"figures": {"f": {"kind": "maps", "seting": "x"}}}, r"key 'figures\.f\.seting'; did you mean 'setting'\?"),
        ({"figures": {"f": "maps"}}, r"'figures\.f': Input should be a valid dictionary"),
        (
            {"grid": [{**GRID[0], "datasets": {"mvtec_ad": {"availble": ["bottle"]}}}]},
            r"unknown key 'grid\.0\.datasets\.mvtec_ad\..*availble'; did you mean 'available'\?",
        ),
    ],
)
def test_wrong_keys_are_named(values, message):
    with pytest.raises(NfbenchError, match=message):
        validate(Experiment, {"title": "x", "grid": GRID, **values}, "x.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"^x\.yaml: 'grid' is missing$"),
        (
            {"tables": {"t": {"title": "x", "metric": "image_ap"}}},
            r"^x\.yaml: 'grid' is missing; 't' needs its runs$",
        ),
        (
            {
                "tables": {"t": {"kind": "parameters", "title": "x", "rows": [MODEL]}},
                "figures": {"f": {"kind": "maps"}},
            },
            r"^x\.yaml: 'grid' is missing; 'f' needs its runs$",
        ),
    ],
)
def test_only_tables_of_parameters_need_no_grid(values, message):
    with pytest.raises(NfbenchError, match=message):
        validate(Experiment, {"title": "x", **values}, "x.yaml")


def own_bench(folder, *categories):
    path = folder / "experiments"
    path.mkdir()
    block = {**GRID[0], "datasets": {"mvtec_ad": {"available": list(categories)}}}
    (path / "own.yaml").write_text(yaml.safe_dump({"title": "x", "grid": [block]}))
    return load_bench({"data_root": str(folder)}, path)


def test_categories_that_are_not_on_disk_are_left_out_where_that_was_asked_for(tmp_path):
    bench = own_bench(tmp_path, "transistor", "bottle", "zipper")
    assert [cell.category for cell in cells(bench, "own")] == ["transistor", "bottle"]
    with pytest.raises(NfbenchError, match="experiment 'own' has no category of its grid on disk"):
        cells(bench, "own", ("cable",))


def test_categories_that_do_not_exist_are_named(tmp_path):
    message = r"own.yaml: 'grid.0.datasets.mvtec_ad': 'mvtec_ad' has no category 'botle'; did you mean 'bottle'\?"
    with pytest.raises(NfbenchError, match=message):
        own_bench(tmp_path, "botle")
