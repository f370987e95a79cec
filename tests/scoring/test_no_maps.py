"""A method without maps passes all stages and has only image metrics."""

from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
import yaml

from nfbench.methods.padim import Padim
from nfbench.metrics import BY_RULE, known_metrics
from nfbench.results.files import ImageScore, read_rows
from nfbench.results.record import read_record
from tests.in_process import run_experiment
from tests.workflow.conftest import Checkout

EXPERIMENT = {
    "title": "Without maps",
    "datasets": {
        "synthetic-blind": {"dataset": "synthetic", "max_train": 6, "max_test_normal": 4, "max_test_anomalous": 4}
    },
    "variants": {"blind": {"method": "padim", "settings": {"reduced_dimensions": 8}}},
    "grid": [
        {
            "methods": ["blind"],
            "backbones": [{"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random"}],
            "datasets": {"synthetic-blind": ["fabric"]},
        }
    ],
    "tables": {
        "blind_image_auroc": {"title": "Images", "metric": "image_auroc"},
        "blind_methods": {"title": "Images", "kind": "methods", "metrics": ["image_auroc", "image_ap"]},
    },
    "figures": {"blind_maps": {"kind": "maps"}, "blind_histograms": {"kind": "histograms"}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blind")
    checkout = Checkout(folder)
    (folder / "workflow/experiments/blind.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    score = Padim.score
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Padim, "score", lambda self, features: score(self, features)._replace(maps=None))
        run_experiment(checkout.folder, "blind")
    return folder / "results"


def run_of(results):
    (path,) = results.glob("runs/*/*/*/blind/*/seed0/run.json")
    return path


def test_metrics_are_those_of_images_by_the_paper_s_rule(finished):
    record = read_record(run_of(finished))
    found = record.selections["last"].metrics
    assert {"image_auroc", "image_ap", "image_f1"} <= set(found)
    named = [known_metrics()[name] for name in found]
    by_rule = [one for one in named if one.metric.variants is BY_RULE]
    assert by_rule
    assert all(one.plain for one in by_rule)
    assert not any(one.metric.size or one.metric.needs_masks for one in named)
    assert record.contour is None
    assert record.segmentation.false_alarms == {}


def test_scores_by_other_rules_and_maps_are_left_out(finished):
    run = run_of(finished).parent
    rows = read_rows(ImageScore, run)
    assert len(rows) == 8
    assert {(row.max, row.mean, row.top1) for row in rows} == {(None, None, None)}
    assert all(np.isfinite(row.paper) for row in rows)
    with np.load(run / "examples.npz") as archive:
        assert set(archive.files) == {"index", "suspect", "miss"}


def test_tables_figures_and_report_show_what_there_is(finished):
    table = pd.read_csv(finished / "tables/blind/blind_image_auroc.csv")
    assert table["mean"].notna().all()
    for name in ("blind_maps", "blind_histograms"):
        assert (finished / f"figures/blind/{name}.png").stat().st_size > 1000
    assert "Without maps" in (finished / "reports/blind.html").read_text()


def test_maps_that_are_asked_for_are_one_clear_line(finished, monkeypatch):
    from nfbench.core.errors import NfbenchError
    from nfbench.stages.evaluate import evaluate_run
    from nfbench.stages.score import score_run

    specs = read_record(run_of(finished)).specs
    score = Padim.score
    monkeypatch.setattr(Padim, "score", lambda self, features: score(self, features)._replace(maps=None))
    with chdir(finished.parent):
        score_run(specs.score, device="cpu", threads=1)
        with pytest.raises(NfbenchError, match=r"'save_maps' is true for .* 'PaDiM' has no maps"):
            evaluate_run(specs.evaluate.model_copy(update={"save_maps": True}), threads=1)
