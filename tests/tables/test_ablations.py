"""Tables of methods with published rows, and the experiments that have them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nfbench.config import load_bench, validate
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.plan.catalogue import Catalogue
from nfbench.plan.cells import expand
from nfbench.results.supposed import official_results
from nfbench.tables._datasets import DatasetNote
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from nfbench.tables.methods import MethodsTable
from tests.tables.making import make_table, others, own_rows
from tests.tables.test_tables import results

EXPERIMENTS = Path(__file__).parents[2] / "workflow" / "experiments"
EVERY = find_dataset("mvtec_ad").categories
CONFIG = MethodsTable(
    title="Ablation",
    metrics=["image_auroc", "pixel_auroc"],
    costs=["train_seconds"],
    published="sanflow_ablation_statistics",
    rows=[
        {"method": "b", "title": "(3b)", "published": {"dataset": "MVTec AD", "variant": "Model (3b)"}},
        {"method": "a", "published": {"dataset": "MVTec AD", "variant": "Model (3a)"}},
        {"method": "c"},
    ],
)


def runs(categories=("bottle", "carpet")):
    """Three methods, a point apart; image AUROC is two points better."""
    parts = []
    for number, method in enumerate("abcd"):
        one = results(categories, methods=((method, f"Method {method}", "SANFlow"),)).assign(machine="CPU")
        one = one.assign(value=one.value - 0.01 * number)
        parts += [one, one.assign(metric="image_auroc", value=one.value + 0.02)]
    return pd.concat(parts)


def changed(**change):
    return MethodsTable.model_validate({**CONFIG.model_dump(), **change})


def test_rows_come_in_order_with_published_values():
    table = make_table(CONFIG, runs())
    assert [row.label for row in own_rows(table)] == ["(3b)", "Method a", "Method c"]
    (b_image, b_pixel, cost), (a_image, _, _), (c_image, _, _) = (row.cells for row in own_rows(table))
    assert (b_image.published.value, a_image.published.value) == (97.0, 97.6)
    assert b_pixel.published is c_image.published is cost.published is None
    assert b_image.mean == pytest.approx(np.mean([98, 99, 88, 89]) + 1)
    assert (b_pixel.status, c_image.status) == ("measured", "measured")
    assert "[97.60]" in to_text(table)
    for render in (to_csv, to_html, to_latex):
        assert "97" in render(table)


def test_published_means_are_compared_where_all_categories_were_measured():
    some = make_table(CONFIG, runs())
    assert some.rows[0].cells[0].status == "incomparable"
    assert np.isnan(some.rows[0].cells[0].difference)
    assert "our mean is over 2 of 15 categories and the published mean over all 15: no difference" in some.caption
    whole = make_table(CONFIG, runs(EVERY).assign(value=0.972))
    assert [row.cells[0].status for row in own_rows(whole)] == ["reproduced", "reproduced", "measured"]
    assert whole.rows[0].cells[0].difference == pytest.approx(0.2)
    assert "means over all official categories on both sides; status by" in whole.caption
    assert "SANFlow, slide: Ablations, statistics estimation" in whole.caption
    assert "(3b), Method a, Method c on resnet18" in whole.caption
    subset = make_table(CONFIG, runs(EVERY), {"mvtec_ad": DatasetNote(subset="at most 3 training images")})
    assert subset.rows[0].cells[0].status == "incomparable"


def test_rows_are_means_over_the_same_categories():
    frame = runs()
    table = make_table(CONFIG, frame[(frame.method != "c") | (frame.category == "bottle")])
    means = [row.cells[0].mean for row in own_rows(table)]
    assert means == pytest.approx([99.5, 100.5, 98.5])
    assert "1 of 15 categories (bottle)" in table.caption


def test_a_method_on_several_backbones_says_which():
    frame = pd.concat([runs(), runs().assign(backbone="b@64", value=0.5)])
    with pytest.raises(NfbenchError, match=r"table 't': 'b' was run on resnet18.*, b@64; choose one with 'backbone'"):
        make_table(CONFIG, frame)
    rows = [{"method": "a", "backbone": {"name": "b", "input_size": 64}, "published": {"variant": "SANFlow (Ours)"}}]
    rows[0]["published"]["dataset"] = "MVTec AD"
    table = make_table(changed(rows=rows), frame)
    assert table.rows[0].label == "Method a"
    assert table.rows[0].cells[0].mean == pytest.approx(50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"method": "aa"}], "published": None}, r"no run has the method 'aa' of 'rows'; did you mean 'a'\?"),
        ({"rows": [{"method": "a", "published": {"variant": "Model (9)"}}]}, r"has 0 rows with variant 'Model \(9\)'"),
        (
            {
                "rows": [{"method": "a", "published": {"method": "BGAD", "category": "average_total"}}],
                "published": "bgad_mvtec_supervised",
            },
            r"table 't': the published value of .* has the setting supervised-10, the runs have one-class",
        ),
    ],
)
def test_rows_that_are_not_there_are_named(change, message):
    with pytest.raises(NfbenchError, match=message):
        make_table(changed(**change), runs())


@pytest.mark.parametrize(
    "change", [{"rows": []}, {"published": None}, {"rows": [{"method": "a"}]}], ids=["no rows", "no file", "no row"]
)
def test_published_values_need_a_file_and_rows(change):
    with pytest.raises(NfbenchError, match="published values need"):
        validate(MethodsTable, {**CONFIG.model_dump(exclude={"kind"}), **change}, "x.yaml")


@pytest.fixture(scope="module")
def bench():
    return load_bench({}, EXPERIMENTS)


def invented(bench, experiment):
    metrics = ("image_auroc", "pixel_auroc", "pixel_aupro")
    return official_results(bench, experiment, [m + suffix for m in metrics for suffix in ("", "_transductive")])


@pytest.mark.parametrize(
    ("experiment", "table", "published"),
    [
        (
            "sanflow_ablation_statistics",
            "sanflow_ablation_statistics",
            [97.6, 97.0, 98.1, 98.7, 75.9, 75.1, 74.5, 76.1],
        ),
        (
            "sanflow_ablation_losses",
            "sanflow_ablation_losses_oracle",
            [98.3, 98.2, 98.3, 98.5, 98.7, 72.6, 73.5, 73.1, 74.2, 76.1],
        ),
        ("sanflow_ablation_augmentation", "sanflow_ablation_augmentation", [98.5, 98.4, 98.7, 74.2, 73.6, 76.1]),
        ("bgad_mvtec", "bgad_unsupervised", [96.8, 97.4]),
        ("bgad_mvtec", "bgad_supervised_oracle", [99.3]),
    ],
)
def test_every_row_of_the_experiments_finds_its_published_mean(bench, experiment, table, published):
    config = bench.experiment(experiment).tables[table]
    made = make_table(config, invented(bench, experiment))
    cells = {row.labels: row.cells[0] for row in own_rows(made)}
    assert [cell.published.value for cell in cells.values()] == pytest.approx(published)
    for (dataset, *_), cell in cells.items():
        assert (cell.status == "incomparable") == (dataset == "shanghaitech-every25")


def test_a_union_is_whole_with_all_categories_of_its_datasets(bench):
    printed = {"dataset": "Union", "method": "HGAD", "category": "average_total"}
    rows = [{"method": "hgad-all", "published": printed}]
    config = changed(rows=rows, published="hgad_other_datasets", datasets=["union"], metrics=["image_auroc"], costs=())
    notes = Catalogue(bench).notes
    found = invented(bench, "hgad_datasets")
    whole = make_table(config, found, notes)
    assert whole.rows[0].cells[0].status in ("reproduced", "close", "off")
    assert "union, 40 of 40 categories" in whole.caption
    some = make_table(config, found[found.category != "03"], notes)
    assert some.rows[0].cells[0].status == "incomparable"
    assert "on union, our mean is over 39 of 40 categories and the published mean over all 40" in some.caption
    made_up = load_bench({"miniature": True}, EXPERIMENTS)
    miniature = make_table(config, found, Catalogue(made_up).notes)
    assert miniature.rows[0].cells[0].status == "incomparable"
    own = make_table(config, found, {"union": DatasetNote(members=("mvtec_ad", "my_parts"))})
    assert own.rows[0].cells[0].status == "incomparable"


@pytest.mark.parametrize(
    ("experiment", "table", "published"),
    [
        (
            "sanflow_mvtec",
            "sanflow_mvtec_image_auroc",
            [94.0, 96.2, 91.89, None, 97.0, 98.9, 96.3, 88.7, 74.7, None, 74.6],
        ),
        ("sanflow_mvtec", "sanflow_mvtec_pixel_auroc_oracle", [99.0, 99.2, 98.1, 98.5, 99.4, 99.3, None, 96.0]),
        ("bgad_mvtec", "bgad_unsupervised_pixel_auroc", [98.8, 99.2, 97.4, 98.4, 98.5, 99.2]),
        ("bgad_mvtec", "bgad_unsupervised_pixel_aupro_oracle", [94.5, 96.0, 92.3, 92.8, 94.4, 96.5]),
        ("bgad_mvtec", "bgad_supervised_pixel_aupro", [96.8, 92.5]),
    ],
)
def test_every_column_of_the_experiments_finds_its_published_values(bench, experiment, table, published):
    config = bench.experiment(experiment).tables[table]
    made = make_table(config, invented(bench, experiment))
    (screw,) = (row for row in made.rows if row.label == "screw")
    found = [cell.published and round(cell.published.value, 6) for cell in screw.cells[: len(made.measured)]]
    assert found == published
    assert not {"SANFlow", "SANFlow (WRN-50)", "NFAD", "BGAD", "BGAD w/o"} & set(others(made))


def test_methods_that_score_images_alone_are_named_below_a_table_of_maps(bench):
    results = invented(bench, "uflow_table1")
    made = make_table(bench.experiment("uflow_table1").tables["uflow_table1"], results)
    assert "CutPaste" not in {column.title for column in made.measured}
    assert "Left out, because they only score images: CutPaste." in made.caption
    of_images = make_table(bench.experiment("uflow_table7").tables["uflow_table7"], results)
    assert "CutPaste" in {column.title for column in of_images.measured}
    assert "Left out" not in of_images.caption


def test_a_method_with_maps_keeps_its_column_where_it_lacks_the_metric(bench):
    """For example, a method without latents in a table of the Number of False Alarms."""
    results = invented(bench, "uflow_table1")
    lacks = (results.variant_of == "padim") & (results.metric == "pixel_aupro")
    made = make_table(bench.experiment("uflow_table2").tables["uflow_table2"], results[~lacks])
    (column,) = (number for number, column in enumerate(made.measured) if column.title == "PaDiM")
    assert all(np.isnan(row.cells[column].mean) for row in made.rows)
    assert "Left out, because they only score images: CutPaste." in made.caption


def test_ablations_share_runs_of_equal_variants(bench):
    names = ("sanflow_mvtec", *(f"sanflow_ablation_{kind}" for kind in ("statistics", "losses", "augmentation")))
    cells = [set(expand(bench, name, lambda dataset: ["bottle"])) for name in names]
    assert [len(found) for found in cells] == [11, 2 * 4, 2 * 5, 2 * 3]  # of bottle and of ShanghaiTech
    assert len(set.union(*cells)) == 11 + 2 * (3 + 4 + 1) + 1  # in ShanghaiTech, sanflow-blend is one more
    for name in (*names, "bgad_mvtec"):
        blocks = [block.datasets["mvtec_ad"].available for block in bench.experiment(name).grid]
        assert set().union(*blocks) == set(EVERY)
