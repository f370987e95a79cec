"""Conditions in the plan: paths and specs without one stay as they were, trainings are shared, and jobs are counted."""

import hashlib
import json
from dataclasses import replace

import pytest

from nfbench.config import load_bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import Block, Cell
from nfbench.plan.measured import has_cell, is_shared, kept_models
from nfbench.plan.plan import Plan
from nfbench.plan.supposed import SupposedPlan
from nfbench.results.foresight import foresee
from nfbench.training.fit import seed_of

EARLIER = "2c6206f5052042f8088a691f4a26e51957ebd6dfae06cac9fa026b0312c7d09f"
"""Hash of the specs and records of ``plain`` without code, computed before there were conditions."""

BACKBONE = {"name": "resnet18.tv_in1k", "input_size": 64}
CONDITIONS = {"shots": [1, 4], "contamination": [0, 0.1], "shift": {"blur": [0, 1, 2], "rotation": [5]}}
PLAIN = {
    "title": "e",
    "seeds": 2,
    "variants": {
        "padim-own": {"method": "padim", "settings": {"reduced_dimensions": 10}},
        "sanflow-own": {"method": "sanflow", "anomalies": {"generator": "blend"}, "settings": {"val_fraction": 0}},
        "bgad-own": {"method": "bgad", "anomalies": {"generator": "rpag", "real": 2}},
    },
    "grid": [
        {"methods": ["fastflow", "padim-own"], "backbones": [BACKBONE], "datasets": {"mvtec_ad": ["bottle", "cable"]}},
        {"methods": ["sanflow-own"], "backbones": [{**BACKBONE, "image": True}], "datasets": {"mvtec_ad": ["bottle"]}},
        {"setting": "unified", "methods": ["hgad"], "backbones": [BACKBONE], "datasets": {"mvtec_ad": ["bottle"]}},
        {
            "setting": "few-anomaly",
            "methods": ["bgad-own"],
            "backbones": [BACKBONE],
            "datasets": {"mvtec_ad": ["cable"]},
        },
    ],
    "tables": {"t": {"title": "t", "metric": "image_auroc", "setting": "one-class"}},
    "figures": {"f": {"kind": "curves"}},
}


def plan_of(tmp_path, grid=None, **block):
    """The plan of an experiment, without images; ``block`` changes its first block."""
    blocks = [dict(one) for one in (grid or PLAIN["grid"])]
    blocks[0] |= block
    (tmp_path / "e.yaml").write_text(json.dumps({**PLAIN, "grid": blocks}))
    return Plan(load_bench({"miniature": True, "results_root": "results"}, tmp_path))


def jobs_of(plan):
    last = [plan.table("e", "t"), plan.figure("e", "f"), plan.report("e"), plan.track("e")]
    return {str(job.log): job for one in last for job in one.chain()}


def digest_of(plan):
    """Hash of what decides which results are done: log, record and spec of each job, without the hashes of code."""
    found = []
    for log, job in sorted(jobs_of(plan).items()):
        spec = json.loads(job.spec.to_json())
        spec = {"blocks": spec["blocks"]} if "blocks" in spec else spec
        for key in ("code", "origin", "metrics"):
            spec.pop(key, None)
        found.append([log, str(job.record), spec])
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def test_without_conditions_all_is_as_before(tmp_path):
    assert digest_of(plan_of(tmp_path)) == EARLIER


def test_an_empty_condition_is_in_no_file():
    cell = Cell("one-class", "mvtec_ad", "bottle", "padim", "resnet18.tv_in1k@64", 0)
    block = Block(setting="one-class", dataset="d", categories=("c",), backbones=("b",), methods=("m",), seeds=1)
    assert str(cell) == "one-class/mvtec_ad/bottle/padim/resnet18.tv_in1k@64/seed0"
    assert str(replace(cell, condition="blur2")) == f"{cell}-blur2"
    assert "condition" not in block.model_dump_json()
    assert list(block.cells) == [Cell("one-class", "d", "c", "m", "b", 0)]
    changed = block.model_copy(update={"conditions": ("", "blur2")})
    assert Block.model_validate(changed.model_dump(mode="json")) == changed
    assert [one.condition for one in changed.cells] == ["", "blur2"]


def test_weights_and_order_are_the_same_under_all_conditions():
    cell = Cell("one-class", "mvtec_ad", "bottle", "padim", "resnet18.tv_in1k@64", 0)
    assert seed_of(replace(cell, condition="shots4")) == seed_of(cell)
    assert seed_of(replace(cell, seed=1)) != seed_of(cell)


def test_conditions_share_trainings_and_features(tmp_path):
    """Per category and method: 4 trainings (all images, 2 numbers of shots, 1 ratio) and 8 scored test sets."""
    plan = plan_of(tmp_path, [PLAIN["grid"][0]], **CONDITIONS)
    jobs = {stage: [] for stage in ("prepare_data", "extract_features", "train_flow", "score_run", "evaluate_run")}
    for job in jobs_of(plan).values():
        jobs.setdefault(job.stage, []).append(job)
    counts = {stage: len(found) for stage, found in jobs.items()}
    assert counts["prepare_data"] == 2
    assert counts["extract_features"] == 2 * (1 + 1 + 3)  # train, test, and a view for each shift
    assert counts["train_flow"] == 2 * 2 * 4
    assert counts["score_run"] == counts["evaluate_run"] == 2 * 2 * 8
    views = {job.spec.view for job in jobs["extract_features"]}
    assert views == {"train", "test", "test-blur1", "test-blur2", "test-rotation5"}
    cell = next(cell for cell in plan.cells("e") if cell.condition == "blur2")
    scored, plain = plan.score(cell).spec, plan.score(replace(cell, condition="")).spec
    assert scored.trained == plain.trained == plain.run
    assert scored.train_features == plain.train_features
    assert scored.features == plain.features.replace("/test/", "/test-blur2/")
    ratio = plan.score(replace(cell, condition="contamination0-of-0.1")).spec
    assert (ratio.trained, ratio.features) == (plain.run, plain.features)


def test_only_added_anomalies_make_a_training_read_test_images(tmp_path):
    plan = plan_of(tmp_path, [PLAIN["grid"][0]], **CONDITIONS)
    reads = {cell.condition: plan.train(cell).spec.test_features for cell in plan.cells("e") if cell == cell.trained}
    assert {name: bool(path) for name, path in reads.items()} == {
        "": False, "shots1": False, "shots4": False, "contamination0.1-of-0.1": True
    }  # fmt: skip


def test_a_shared_model_is_kept(tmp_path):
    plan = plan_of(tmp_path, [PLAIN["grid"][0]], **CONDITIONS)
    bench = plan.bench.model_copy(update={"config": plan.bench.config.model_copy(update={"keep_models": "none"})})
    kept = {cell.condition: kept_models(bench, cell) for cell in plan.cells("e")}
    own = {"shots1", "shots4", "contamination0.1-of-0.1"}
    assert {name for name, found in kept.items() if found == "none"} == own
    assert {name for name, found in kept.items() if found == "all"} == kept.keys() - own
    without = plan_of(tmp_path, [PLAIN["grid"][0]], shots=[4])
    assert not any(is_shared(without.bench, cell) for cell in without.cells("e"))


def test_a_grid_has_the_cells_of_its_conditions_only(tmp_path):
    plan = plan_of(tmp_path, [PLAIN["grid"][0]], shots=[4])
    cell, experiment = plan.cells("e")[0], plan.bench.experiment("e")
    assert has_cell(experiment, replace(cell, condition="shots4"))
    assert not has_cell(experiment, replace(cell, condition="shots5"))
    with pytest.raises(NfbenchError, match=r"no variant uses the view 'test-blur2'"):
        plan.score(replace(cell, condition="blur2"))


def test_a_unified_model_is_scored_under_shifts(tmp_path):
    grid, both = [PLAIN["grid"][2], PLAIN["grid"][0]], {"mvtec_ad": ["bottle", "cable"]}
    plan = plan_of(tmp_path, grid, datasets=both, shift={"blur": [2]})
    cells = [cell for cell in plan.cells("e") if cell.setting == "unified"]
    assert len(cells) == 2 * 2  # two categories, with and without the shift
    (trained,) = {cell.trained for cell in cells}
    assert (trained.category, trained.condition) == ("all", "")


def test_disk_and_jobs_are_foreseen(tmp_path):
    """Each shift takes the disk of one more view of the test images, and no model."""
    grid = [{**PLAIN["grid"][0], "methods": ["fastflow"], "datasets": {"mvtec_ad": ["bottle"]}}]
    found = {}
    for name, block in {"plain": {}, "shift": {"shift": {"blur": [1, 2]}}, "shots": {"shots": [1, 4]}}.items():
        plan_of(tmp_path, grid, **block)
        bench = load_bench({"results_root": str(tmp_path / "results"), "seeds": 1}, tmp_path)
        found[name] = foresee(SupposedPlan(Plan(bench)), ["e"])
    plain, shift, shots = found.values()
    views = plain.disk.features / (209 + 83)  # images of bottle, training and test
    assert shift.disk.features == plain.disk.features + 2 * 83 * views
    assert shift.disk.kept == plain.disk.kept
    assert shots.disk.features == plain.disk.features
    assert shots.disk.kept == 3 * plain.disk.kept
    trained = {name: (one.stages["train_flow"].to_run, one.stages["score_run"].to_run) for name, one in found.items()}
    assert trained == {"plain": (1, 1), "shift": (1, 3), "shots": (3, 3)}
