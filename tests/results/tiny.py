"""A small finished experiment on made-up images: two cells of one method, a table, and figures of most kinds."""

from contextlib import chdir
from pathlib import Path

import yaml

from nfbench.cli.load import load_plan
from nfbench.plan.cells import Cell
from nfbench.plan.plan import Plan
from tests.conftest import make_image_folder
from tests.in_process import run_job

__all__ = ["FIGURES", "OTHER", "PART", "TAG", "finish_tiny"]

BACKBONE = "tf_efficientnet_lite0"
SETTINGS = {"epochs": 2, "batch_size": 3, "flow_steps": 1, "checkpoints": 2}
FIGURES = ("maps", "segmentation", "histograms", "curves", "thresholds", "calibration", "deviations", "projections")
EXPERIMENT = {
    "title": "Tiny",
    "datasets": {"own": {"dataset": "folder", "root": "images"}},
    "variants": {"tiny": {"method": "fastflow", "settings": SETTINGS}},
    "tables": {"numbers": {"title": "T", "metric": "image_auroc"}},
    "figures": {kind: {"kind": kind} for kind in FIGURES},
}
GRID = {"methods": ["tiny"], "backbones": [{"name": BACKBONE, "input_size": 32, "weights": "random"}]}
TAG = f"{BACKBONE}@32-random"
PART, OTHER = (Cell("one-class", "own", category, "tiny", TAG, 0) for category in ("part", "other"))


def finish_tiny(folder: Path) -> Plan:
    """Run experiment 'tiny' and aggregate 'half' of it; return the plan, for work in ``folder``."""
    make_image_folder(folder / "images", "part")
    make_image_folder(folder / "images", "other", (40, 48))
    (folder / "workflow/experiments").mkdir(parents=True)
    (folder / "config.yaml").write_text("{experiment: tiny, save_maps: true}")
    for name, categories in (("tiny", ["part", "other"]), ("half", ["part"])):
        grid = {"grid": [{**GRID, "datasets": {"own": categories}}], "seeds": 1}
        own = EXPERIMENT if name == "tiny" else {key: EXPERIMENT[key] for key in ("title", "datasets", "variants")}
        (folder / f"workflow/experiments/{name}.yaml").write_text(yaml.safe_dump({**own, **grid}))
    with chdir(folder):
        plan, done = load_plan(), set()
        for job in (*plan.aggregate("tiny").chain(), plan.aggregate("half")):
            if job.log not in done:
                run_job(job)
                done.add(job.log)
    return plan
