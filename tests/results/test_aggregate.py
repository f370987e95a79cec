"""Aggregated results: images used for training, and files of older versions."""

from types import SimpleNamespace

import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.features.recipe import Recipe
from nfbench.plan.cells import Cell
from nfbench.results.aggregate import aggregate, read_results, write_results
from nfbench.results.record import (
    AnomaliesRecord,
    CellRecord,
    DataRecord,
    SearchRecord,
    SegmentationRecord,
    Selection,
)

CELL = Cell("few-anomaly", "mvtec_ad", "bottle", "bgad-2", "b6@256", 0)


SEARCH = SearchRecord(
    objective="validation", metric="image_auroc", trial=3, value=0.9, chosen=False, settings={"lr": 0.1},
    trials={"complete": 5, "pruned": 2, "failed": 1}, seconds=9.5, validation=["c", "d"],
)  # fmt: skip


RECIPE = Recipe(
    backbone={"name": "b6", "levels": [1, 2]}, mean=(0, 0, 0), std=(1, 1, 1), level_shapes={}, weights_sha256="0"
)


def record(anomalies, search=None, source="held out"):
    return SimpleNamespace(
        cell=CellRecord(**CELL.__dict__, variant_of="bgad", method_title="BGAD", title="BGAD"),
        features=SimpleNamespace(recipe=RECIPE),
        search=search,
        data=DataRecord(
            manifest="m", manifest_sha256="0", n_train=9, n_val=1, classes={"bottle": "k"}, n_test_normal=4,
            n_test_anomalous=3, n_regions=5, n_defects=2, image_side=900, resolution="original", anomalies=anomalies,
        ),
        segmentation=SegmentationRecord(
            thresholds={}, false_alarms={}, threshold_images={"source": source, "n_images": 9}
        ),
        epochs=8, settings={},
        parameters={"total": 1},
        seconds={"train": 1.0},
        images_per_second={"score": 1.0},
        peak_memory_mb={"cpu": 1.0},
        latency=None,
        provenance={"score": {"command": "nfbench", "gpu": None, "cpu": "CPU", "device": "cpu", "threads": 1}},
        selections={"last": Selection(epoch=8, metrics={"image_auroc": 0.9})},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("anomalies", "expected"),
    [
        (None, (0, "")),
        (AnomaliesRecord(generator="rpag", views=8, online=True, repeats=5, real=["a", "b"]), (2, "rpag")),
        (AnomaliesRecord(generator=None, views=8, online=False, repeats=5, real=["a"]), (1, "")),
    ],
)
def test_rows_say_what_was_learned_from(anomalies, expected):
    (row,) = aggregate([record(anomalies)]).itertuples()
    assert (row.n_real, row.generator) == expected
    assert (row.n_test, row.n_regions) == (7, 5)


def test_rows_say_what_was_searched():
    (row,) = aggregate([record(None, SEARCH)]).itertuples()
    assert (row.search, row.search_metric, row.search_chosen) == ("validation", "image_auroc", False)
    assert (row.search_trials, row.search_pruned, row.search_failed, row.search_seconds) == (8, 2, 1, 9.5)
    assert row.n_validation == 2
    (row,) = aggregate([record(None)]).itertuples()
    assert (row.search, row.search_chosen, row.search_trials) == ("", True, 0)


def test_rows_say_which_images_thresholds_are_from():
    rows = aggregate([record(None), record(None, None, "cross-fitted")])
    assert rows.threshold_images.tolist() == ["held out", "cross-fitted"]


def test_results_of_an_older_version_are_named(tmp_path):
    path = tmp_path / "results.parquet"
    results = pd.DataFrame({"metric": ["image_auroc"]})
    write_results(path, results.copy())
    assert read_results(path).attrs["command"].startswith("nfbench")
    results.to_parquet(path)
    with pytest.raises(NfbenchError, match=r"results\.parquet was written by an older version; rebuild it with"):
        read_results(path)
