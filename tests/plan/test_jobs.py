"""The graph of jobs: what each reads is what the jobs before it write, and its spec follows from its own part of the
configuration alone."""

import json
from textwrap import indent

import pytest
import yaml

from nfbench.blocks.method import resolve_settings
from nfbench.cli.load import load
from nfbench.config import load_bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.experiment_specs import TableSpec
from nfbench.plan.paths import EVALUATED, SCORED, TRAINED
from nfbench.plan.plan import Plan
from nfbench.plan.specs import EvaluateSpec, ScoreSpec, SearchSpec, SummarizeSpec, TrainSpec
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

NAMES = sorted(path.stem for path in (ROOT / "workflow" / "experiments").glob("*.yaml"))
CASES = [("miniature", name) for name in NAMES] + [("whole", name) for name in NAMES if name.startswith("smoke")]
GATHERING = ("build_report", "track_runs")
"""Stages that read files which jobs before those before them write."""

WRITES = {
    "prepare_data": lambda spec: [spec.manifest],
    "extract_features": lambda spec: [spec.features],
    "create_study": lambda spec: [f"{spec.study}/description.json"],
    "search_hyperparameters": lambda spec: [f"{spec.study.study}/worker{spec.worker}.json"],
    "summarize_study": lambda spec: [f"{spec.study.study}/{name}" for name in ("study.json", "best.yaml")],
    "train_flow": lambda spec: [f"{spec.run}/{name}" for name in TRAINED],
    "score_run": lambda spec: [f"{spec.run}/{SCORED}"],
    "evaluate_run": lambda spec: [f"{spec.run}/{name}" for name in EVALUATED],
    "aggregate_results": lambda spec: [
        str(spec.paths.experiment(spec.experiment, name)) for name in ("results.parquet", "ledger.csv")
    ],
    "build_table": lambda spec: [
        str(spec.paths.table(spec.experiment, spec.name, ending)) for ending in ("tex", "html", "csv")
    ],
    "build_figure": lambda spec: [
        str(spec.paths.figure(spec.experiment, spec.name, ending)) for ending in ("pdf", "png")
    ],
    "build_report": lambda spec: [str(spec.paths.report(spec.experiment))],
    "track_runs": lambda spec: [],
}


def new_plan(root, change=lambda bench: bench, **config):
    """A plan of all experiments of the repository; ``change`` turns the bench into another."""
    values = {"miniature": True, "results_root": str(root), "data_root": str(root / "data"), **config}
    return Plan(change(load(json.dumps(values), ROOT)))


def jobs_of(plan, experiment):
    """All jobs of an experiment, each once."""
    cells, config = plan.cells(experiment), plan.bench.experiment(experiment)
    waiting = [plan.track(experiment), *(plan.table(experiment, name) for name in config.tables)]
    waiting += [plan.figure(experiment, name) for name in config.figures]
    waiting += [plan.report(experiment), *map(plan.evaluate, cells)] if cells else []
    found = {}
    while waiting:
        job = waiting.pop()
        if job.log not in found:
            found[job.log] = job
            waiting.extend(job.before)
    return list(found.values())


def specs_of(plan):
    """Specs of all jobs of all experiments, by their logs."""
    return {job.log: job.spec for name in NAMES for job in jobs_of(plan, name)}


def changes(old, new):
    """Logs of the jobs whose specs changed; no job of old ones is missing."""
    assert old.keys() <= new.keys()
    return {log for log, spec in old.items() if new[log].to_json() != spec.to_json()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def plans(root):
    return {"miniature": new_plan(root), "whole": new_plan(root, miniature=False)}


@pytest.fixture(scope="module")
def specs(plans):
    return specs_of(plans["miniature"])


@pytest.mark.parametrize(("kind", "experiment"), CASES)
def test_every_file_that_is_read_is_written_by_a_job_before(plans, kind, experiment):
    jobs = jobs_of(plans[kind], experiment)
    for job in jobs:
        before = list(job.chain())[:-1] if job.stage in GATHERING else job.before
        assert set(job.inputs) <= {path for other in before for path in WRITES[other.stage](other.spec)}, job.log
        assert len(set(job.inputs)) == len(job.inputs), job.log
        for other in () if job.stage in GATHERING else before:
            assert set(WRITES[other.stage](other.spec)) & set(job.inputs), f"{job.log} waits in vain for {other.log}"
    written = [path for job in jobs for path in WRITES[job.stage](job.spec)]
    assert len(set(written)) == len(written)
    assert set(plans[kind].outputs(experiment)) <= set(written)


def test_a_study_has_features_of_each_backbone_that_it_chooses_from(specs):
    studies = [spec for spec in specs.values() if spec.stage == "create_study"]
    assert any(len(spec.backbones) > 1 for spec in studies)
    for spec in studies:
        assert [one.tag for one in spec.backbones] == [backbone.tag for backbone in spec.variant.search.backbones]


@pytest.mark.parametrize(("kind", "experiment"), CASES)
def test_specs_survive_their_way_to_the_process(plans, kind, experiment):
    for job in jobs_of(plans[kind], experiment):
        text = job.spec.to_json()
        again = type(job.spec).parse(text)
        assert again == job.spec
        assert again.to_json() == text


SETTINGS = """
gradient_clip: null
kernels: alternating
lr: 1e-3
epochs: 3
val_fraction: 0.25
"""
READ = {"gradient_clip": None, "kernels": "alternating", "lr": 1e-3, "epochs": 3, "val_fraction": 0.25}
OTHERS = """
switch: false
word: no
list: [1, 2.5, true, null, "1e-3", "no", [x], {a: .5}]
odd: "it's \\"x\\" {y} $z ü 漢"
"""
READ_OTHERS = {
    "switch": False, "word": "no", "list": [1, 2.5, True, None, "1e-3", "no", ["x"], {"a": 0.5}],
    "odd": "it's \"x\" {y} $z ü 漢",
}  # fmt: skip


def own_plan(folder, settings):
    """A plan of an experiment of one run with the settings given, as text of YAML."""
    backbone = "resnet18.tv_in1k"
    grid = {"methods": ["own"], "backbones": [backbone], "datasets": {"mvtec_ad": ["bottle"]}}
    row = {"method": "own", "backbone": {"name": backbone}}
    values = {"title": "E", "grid": [grid], "tables": {"t": {"kind": "parameters", "title": "T", "rows": [row]}}}
    variants = "variants:\n  own:\n    method: fastflow\n    settings:\n" + indent(settings.strip(), " " * 6)
    (folder / "e.yaml").write_text(yaml.safe_dump(values) + variants + "\n")
    return Plan(load_bench({"miniature": True, "results_root": str(folder)}, folder))


@pytest.mark.parametrize(
    ("text", "settings"),
    [(SETTINGS, READ), (OTHERS, READ_OTHERS), (SETTINGS + OTHERS, READ | READ_OTHERS)],
    ids=["known", "others", "both"],
)
def test_settings_arrive_as_they_were_written(tmp_path, text, settings):
    path = tmp_path / "spec.json"
    plan = own_plan(tmp_path, text)
    spec = plan.train(plan.cells("e")[0]).spec
    path.write_text(spec.to_json())
    for given in (spec.to_json(), str(path)):
        assert TrainSpec.parse(given) == spec
        assert repr(TrainSpec.parse(given).settings) == repr(settings)
    table = plan.table("e", "t").spec
    assert repr(TableSpec.parse(table.to_json()).variants["own"].settings) == repr(settings)


def test_null_numbers_and_text_mean_to_the_method_what_they_say(tmp_path):
    plan = own_plan(tmp_path, SETTINGS)
    spec = TrainSpec.parse(plan.train(plan.cells("e")[0]).spec.to_json())
    found = resolve_settings(spec.method, overrides=spec.settings)
    assert (found.gradient_clip, found.lr, found.epochs, found.kernels) == (None, 0.001, 3, "alternating")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "--spec: not valid JSON"),
        ("nowhere.json", r"nowhere\.json"),
        ('{"cell": {}}', r"--spec: 'cell\.setting'"),
        ('{"trainde": "x"}', r"--spec: unknown key 'trainde'; did you mean 'trained'\?"),
    ],
)
def test_a_spec_that_is_wrong_is_named_by_its_key(given, message):
    with pytest.raises(NfbenchError, match=message):
        EvaluateSpec.parse(given)


@pytest.mark.parametrize("config", [{}, {"device": "cpu", "experiment": "smoke"}], ids=str)
def test_equal_configurations_mean_equal_jobs_whatever_no_job_reads(root, specs, config):
    assert specs_of(new_plan(root, **config)) == specs


def counts_parameters(spec):
    return spec.stage == "build_table" and spec.table.kind == "parameters"


def test_more_seeds_change_no_run_and_no_table_of_the_same_cells(root, specs):
    found = specs_of(new_plan(root, seeds=2))
    assert len(found) > len(specs)
    of_cells = {log for log, spec in specs.items() if hasattr(spec, "blocks") and spec.blocks}
    assert changes(specs, found) == of_cells
    counted = [spec for spec in specs.values() if counts_parameters(spec)]
    assert counted
    assert all(found[log] == spec for log, spec in specs.items() if counts_parameters(spec))


def test_seeds_of_one_experiment_change_no_other(root, specs):
    def with_seeds(bench):
        more = bench.experiment("smoke").model_copy(update={"seeds": 2})
        config = bench.config.model_copy(update={"seeds": None})
        others = {name: one.model_copy(update={"seeds": 1}) for name, one in bench.experiments.items()}
        return bench.model_copy(update={"config": config, "experiments": {**others, "smoke": more}})

    changed = changes(specs, specs_of(new_plan(root, with_seeds)))
    assert changed == {log for log, spec in specs.items() if getattr(spec, "experiment", None) == "smoke"}


def with_variant(name, **change):
    """A change of one variant of the bench."""

    def changed(bench):
        variant = bench.variant(name).model_copy(update=change)
        return bench.model_copy(update={"variants": {**bench.variants, name: variant}})

    return changed


def gathers(spec):
    """Whether it is made from all runs of an experiment, whose specs it holds them against."""
    return hasattr(spec, "experiment") and not counts_parameters(spec)


def learns(spec, name):
    """Whether the stage learns with the settings of a variant or follows from that, or counts its parameters."""
    if isinstance(spec, TrainSpec | ScoreSpec | EvaluateSpec):
        return spec.cell.method == name
    if isinstance(spec, TableSpec):
        return name in spec.variants
    study = spec.study if isinstance(spec, SearchSpec | SummarizeSpec) else spec
    return spec.stage in ("create_study", "search_hyperparameters", "summarize_study") and study.name == name


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("padim-smoke", {"train_flow", "score_run", "evaluate_run"}),
        ("bgad-smoke", {"train_flow", "score_run", "evaluate_run"}),
        ("uflow-cait", {"build_table"}),
        ("padim-searched-smoke",
         {"train_flow", "score_run", "evaluate_run", "create_study", "search_hyperparameters", "summarize_study"}),
    ],
)  # fmt: skip
def test_settings_of_a_variant_change_its_own_trainings_alone(root, plans, specs, name, stages):
    settings = {**plans["miniature"].bench.variant(name).settings, "weight_decay": 0.125}
    found = specs_of(new_plan(root, with_variant(name, settings=settings)))
    changed = {log for log in changes(specs, found) if not gathers(specs[log])}
    assert found.keys() == specs.keys()
    assert changed == {log for log, spec in specs.items() if learns(spec, name)}
    cells = plans["miniature"].cells
    of_variant = {
        log for log, spec in specs.items() if gathers(spec) and name in {c.method for c in cells(spec.experiment)}
    }
    assert changes(specs, found) - changed == of_variant
    assert {specs[log].stage for log in changed} == stages


def test_anomalies_of_a_variant_change_its_own_runs_and_make_views_of_their_own(root, plans, specs):
    anomalies = plans["miniature"].bench.variant("bgad-smoke").anomalies.model_copy(update={"views": 3})
    found = specs_of(new_plan(root, with_variant("bgad-smoke", anomalies=anomalies)))
    gone = specs.keys() - found.keys()
    changed = {log for log, spec in specs.items() if log in found and found[log] != spec and not gathers(spec)}
    assert [specs[log].view for log in gone] == ["pseudo-rpag-k2-real2-seed0"]
    assert {found[log].view for log in found.keys() - specs.keys()} == {"pseudo-rpag-k3-real2-seed0"}
    assert {(specs[log].stage, specs[log].cell.method) for log in changed} == {
        ("train_flow", "bgad-smoke"), ("score_run", "bgad-smoke"), ("evaluate_run", "bgad-smoke")
    }  # fmt: skip
