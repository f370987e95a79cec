"""A new family of metrics repeats evaluations only if a table needs it, and never repeats trainings."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from nfbench.config import Experiment
from nfbench.core.registry import plugin_names
from nfbench.metrics import PACKAGE
from nfbench.plan import plan as planning
from nfbench.plan.cells import Cell
from nfbench.plan.measured import kept_models, times_images
from nfbench.plan.paths import EVALUATED
from tests.made_up import MadeUp

pytestmark = pytest.mark.slow

NEW = "f1"
"""A family that is taken to be new, and one of its metrics."""
ASKED = {"title": "New", "metric": "image_f1"}


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Finished runs from before the family was there."""
    methods = {"uflow": "uflow", "padim": "padim"}
    with monkeypatch.context() as before:
        before.setattr(planning, "families", lambda: [name for name in plugin_names(PACKAGE) if name != NEW])
        made = MadeUp(tmp_path, methods, categories=("bottle",), seeds=1).write()
    for cell in made.cells:
        for name in EVALUATED:  # their contents are not looked at
            (made.paths.run_record(cell).parent / name).touch()
    return made


def evaluations(made, **config):
    """State and families of the evaluations of a new plan, by method."""
    (made.folder / "config.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load((made.folder / "config.yaml").read_text()), **config})
    )
    plan = MadeUp(made.folder, made.methods).plan
    jobs = {cell.method: plan.evaluate(cell) for cell in made.cells}
    return {method: (job.state, NEW in job.spec.metrics) for method, job in jobs.items()}


def add_experiment(made, method):
    """An experiment with a part of the runs, and a table that asks for the new metric."""
    values = yaml.safe_load(made.experiment_file.read_text())
    grid = [{**values["grid"][0], "methods": [method]}]
    path = made.experiment_file.with_name("asking.yaml")
    path.write_text(yaml.safe_dump({"title": "Asks", "grid": grid, "tables": {"asking": ASKED}}))


def test_a_new_family_makes_nothing_run(made):
    assert evaluations(made) == {"uflow": ("done", False), "padim": ("done", False)}


def test_runs_that_a_table_asks_for_are_evaluated_again(made):
    add_experiment(made, "padim")
    assert evaluations(made) == {"uflow": ("done", False), "padim": ("stale", True)}


def test_what_is_evaluated_again_for_another_reason_gets_the_new_metric(made):
    assert evaluations(made, save_maps=True) == {"uflow": ("stale", True), "padim": ("stale", True)}


def test_a_family_that_was_removed_makes_evaluations_stale(made, monkeypatch):
    monkeypatch.setattr(planning, "families", lambda: ["auroc"])
    assert evaluations(made) == {"uflow": ("stale", False), "padim": ("stale", False)}


def test_trainings_know_no_metrics(made):
    plan = made.plan
    specs = [plan.train(cell.trained).spec for cell in made.cells]
    assert not [module for spec in specs for module in spec.plugins if module.startswith(PACKAGE)]


@pytest.mark.parametrize(
    ("experiments", "config", "expected"),
    [
        ({}, None, "all"),
        ({"e": "none"}, None, "none"),
        ({"e": "none", "f": "last"}, None, "last"),
        ({"e": "none", "f": "last"}, "all", "all"),
        ({"e": "last"}, "none", "none"),
    ],
)
def test_models_stay_as_the_configuration_says_or_the_experiment_that_keeps_most(experiments, config, expected):
    cell = Cell("one-class", "mvtec_ad", "bottle", "uflow", "resnet18.tv_in1k@256", 0)
    grid = [{"methods": ["uflow"], "backbones": [{"name": "resnet18.tv_in1k"}], "datasets": {"mvtec_ad": "available"}}]
    both = {name: Experiment(title="E", grid=grid, keep_models=kept) for name, kept in experiments.items()}
    others = {
        "table": Experiment(title="E", runs_of="e"),
        "other": Experiment(title="E", grid=[{**grid[0], "methods": ["padim"]}]),
    }
    bench = SimpleNamespace(experiments={**both, **others}, config=SimpleNamespace(keep_models=config))
    assert kept_models(bench, cell) == expected
    assert kept_models(bench, replace(cell, setting="unified")) == "all"


def test_images_are_timed_where_a_table_or_figure_shows_it():
    cell = Cell("one-class", "mvtec_ad", "bottle", "padim", "resnet18.tv_in1k@256", 0)
    grid = [{"methods": ["padim"], "backbones": ["resnet18.tv_in1k"], "datasets": {"mvtec_ad": ["bottle"]}}]
    table = {"title": "T", "kind": "methods", "metrics": ["image_auroc"]}
    plain = Experiment(title="E", grid=grid, tables={"t": {**table, "costs": ["train_seconds"]}})
    timed = Experiment(title="E", grid=grid, tables={"t": {**table, "costs": ["train_seconds", "fps_32"]}})
    drawn = Experiment(title="E", grid=grid, figures={"f": {"kind": "speed", "by": "latency"}})
    for shown, expected in (([plain], False), ([plain, timed], True), ([drawn], True)):
        bench = SimpleNamespace(experiments={str(number): one for number, one in enumerate(shown)})
        assert times_images(bench, cell) == expected
        assert not times_images(bench, replace(cell, method="uflow"))
