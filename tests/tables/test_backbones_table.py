"""Tables of backbones: means over categories, and published means only where they are of the same categories."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.tables._datasets import DatasetNote
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from nfbench.tables.backbones import BackbonesTable
from tests.tables.making import make_table, own_rows
from tests.tables.test_tables import results

RESNET, WIDE = "resnet18.tv_in1k@256", "wide_resnet50_2.tv_in1k@256"
CONFIG = BackbonesTable(
    title="SimpleNet & backbones",
    metrics=("image_auroc", "pixel_auroc"),
    published="simplenet_backbones",
    rows=[
        {"backbone": {"name": "resnet18.tv_in1k"}, "title": "ResNet18", "published": {"backbone": "ResNet18"}},
        {"backbone": {"name": "wide_resnet50_2.tv_in1k"}, "title": "<WRN>", "published": {"backbone": "WideResNet50"}},
    ],
)


def runs(categories=("bottle", "carpet"), dataset="mvtec_ad"):
    """Two backbones, two metrics; categories differ by 10 points, backbones by 1, metrics by 2, seeds by 1."""
    parts = []
    for number, backbone in enumerate((RESNET, WIDE)):
        one = results(categories).assign(
            method="simplenet",
            variant_of="simplenet",
            title="SimpleNet",
            method_title="SimpleNet",
            backbone=backbone,
            dataset=dataset,
        )
        one = one.assign(value=one.value + 0.01 * number)
        parts += [one, one.assign(metric="image_auroc", value=one.value + 0.02)]
    return pd.concat(parts)


def test_cells_are_means_over_categories_and_seeds():
    resnet, wide = own_rows(make_table(CONFIG, runs()))
    image, pixel = wide.cells
    assert resnet.label == f"ResNet18 ({RESNET})"
    assert pixel.mean == pytest.approx(np.mean([98, 99, 88, 89]) + 1)
    assert image.mean == pytest.approx(pixel.mean + 2)
    assert pixel.std == pytest.approx(np.std([93, 94], ddof=1))
    assert (image.published.value, pixel.published.value) == (99.6, 98.1)


def test_caption_says_that_settings_were_searched_on_the_test_set():
    searched = runs().assign(search="test", search_metric="pixel_auroc", search_trials=30)
    caption = make_table(CONFIG, searched).caption
    assert "Settings of SimpleNet searched per category with 30 trials, judged by pixel AUROC ON THE TEST" in caption
    assert "searched" not in make_table(CONFIG, runs()).caption


def test_means_of_some_categories_are_not_compared():
    table = make_table(CONFIG, runs())
    assert {cell.status for row in own_rows(table) for cell in row.cells} == {"incomparable"}
    assert all(np.isnan(cell.difference) for row in table.rows for cell in row.cells)
    assert "mvtec_ad, 2 of 15 categories (bottle, carpet)" in table.caption
    assert "our mean is over 2 of 15 categories and the published mean over all 15: no difference" in table.caption
    assert "reproduced, " not in to_latex(table).split(r"\bottomrule")[1]


def test_means_of_all_categories_are_compared():
    every = find_dataset("mvtec_ad").categories
    frame = runs(every).assign(value=0.957)
    table = make_table(CONFIG, frame)
    image, pixel = table.rows[0].cells
    assert pixel.status == "reproduced"
    assert pixel.difference == pytest.approx(0)
    assert image.status == "off"
    assert "means over all official categories on both sides" in table.caption


def test_means_of_some_images_are_not_compared():
    frame = runs(find_dataset("mvtec_ad").categories)
    subset = make_table(CONFIG, frame, {"mvtec_ad": DatasetNote(subset="at most 3 training images")})
    assert subset.rows[0].cells[0].status == "incomparable"
    assert "15 of 15 categories and a subset of their images" in subset.caption
    own = make_table(CONFIG, frame.assign(dataset="own"))
    assert own.rows[0].cells[0].status == "incomparable"


def test_rows_are_means_over_the_same_categories():
    """carpet was not measured on the wide ResNet, and is left out of the other's mean too."""
    frame = runs()
    frame = frame[(frame.backbone == RESNET) | (frame.category == "bottle")]
    table = make_table(CONFIG, frame)
    assert table.rows[1].cells[1].mean - table.rows[0].cells[1].mean == pytest.approx(1)
    assert "1 of 15 categories (bottle)" in table.caption
    frame = frame[(frame.backbone == WIDE) | (frame.category == "carpet")]
    with pytest.raises(NfbenchError, match="table 't': the rows have no category in common"):
        make_table(CONFIG, frame)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ("pixel_ap",)}, r"no run has the metric 'pixel_ap'"),
        ({"rows": [{"backbone": {"name": "x", "levels": [2, 3]}}]}, "no run has the backbone 'x@256-l23' of 'rows'"),
        (
            {"rows": [{"backbone": {"name": "resnet18.tv_in1k"}, "published": {"backbone": "ResNet19"}}]},
            "has 0 rows with method 'SimpleNet', backbone 'ResNet19' and metric 'image_auroc'",
        ),
    ],
)
def test_what_is_not_there_is_named(change, message):
    config = BackbonesTable.model_validate({**CONFIG.model_dump(), **change})
    with pytest.raises(NfbenchError, match=message):
        make_table(config, runs())


def test_levels_are_found_by_their_marks(repository):
    from nfbench.config import load_bench

    config = load_bench({}, repository / "workflow" / "experiments").experiment("simplenet_levels")
    table = config.tables["simplenet_levels"]
    frame = pd.concat([runs().assign(backbone=row.backbone.tag) for row in table.rows]).drop_duplicates()
    made = make_table(table, frame)
    assert [row.cells[0].published.value for row in made.rows] == [93.0, 98.4, 99.2, 96.7, 99.6, 99.1]
    assert [row.cells[0].published.trusted for row in made.rows] == [True, True, False, False, True, False]
    assert "[96.70 ?]" in to_text(made)


def test_variants_of_one_method_are_told_apart():
    frame = pd.concat([runs().assign(title="SimpleNet"), runs().assign(method="small", title="SimpleNet (small)")])
    table = make_table(CONFIG, frame)
    assert [table.details(column) for column in table.columns[1:3]] == ["SimpleNet, last", "SimpleNet (small), last"]
    assert [cell.published.value for cell in table.rows[0].cells] == [98.3, 95.7, 98.3, 95.7]


def test_csv_names_metric_and_backbone():
    rows = list(csv.DictReader(io.StringIO(to_csv(make_table(CONFIG, runs())))))
    assert [row["status"] for row in rows] == ["incomparable"] * 4 + ["published only"] * 4
    assert rows[1]["backbone"] == f"ResNet18 ({RESNET})"
    assert (rows[1]["metric"], rows[1]["method"]) == ("pixel AUROC", "SimpleNet")
    assert (rows[1]["published"], rows[1]["difference"], rows[1]["status"]) == ("95.7", "", "incomparable")


def test_html_is_escaped():
    page = to_html(make_table(CONFIG, runs()))
    assert "SimpleNet &amp; backbones" in page
    assert "&lt;WRN&gt;" in page
    assert "<WRN>" not in page
    assert "<th>dataset</th><th>backbone</th>" in page
