"""Published tables with rows of several datasets: U-Flow's Tables 5 and 8, where two of them have a row 'all'."""

import pandas as pd
import pytest

from nfbench.config import load_bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.catalogue import Catalogue
from nfbench.plan.cells import expand
from nfbench.reference import published_table
from nfbench.tables.results import ResultsTable
from tests.tables.making import make_table
from tests.tables.test_tables import results
from tests.workflow.conftest import ROOT

TABLE = "uflow_table5_other_datasets"
NAMES = {"lgg_mri": "LGG MRI", "shanghaitech": "STC", "btad": "BTAD"}


def of_datasets(*datasets):
    categories = {"btad": ("01", "02", "03")}
    return pd.concat(results(categories.get(name, ("all",))).assign(dataset=name) for name in datasets)


def table(frame, **changed):
    values = {"title": "x", "metric": "pixel_auroc", "published": TABLE, "published_datasets": NAMES}
    return make_table(ResultsTable(**values | changed), frame)


def test_each_dataset_has_its_own_published_values():
    rows = table(of_datasets("lgg_mri", "shanghaitech", "btad")).rows
    found = {(row.labels[0], row.label): row.cells[0].published.value for row in rows}
    assert found["lgg_mri", "all"] == 93.55
    assert found["shanghaitech", "all"] == 87.19
    assert found["btad", "02"] == 96.93
    assert found["btad", "average"] == pytest.approx((97.70 + 96.93 + 99.76) / 3)
    others = {row.labels[0]: row.cells[1].text for row in rows if row.label == "all"}
    assert others == {"lgg_mri": "82.51", "shanghaitech": "95.51"}  # FastFlow, which was not measured


def test_a_row_of_several_datasets_needs_to_be_told_apart():
    with pytest.raises(NfbenchError, match=r"'all' is a row in several datasets; choose one with 'published_datasets'"):
        table(of_datasets("lgg_mri"), published_datasets={})
    assert table(of_datasets("btad"), published_datasets={}).rows[0].cells[0].published.value == 97.70


def test_a_name_that_the_published_table_does_not_have_is_named():
    with pytest.raises(NfbenchError, match=r"has no dataset 'LGG-MRI'; did you mean 'LGG MRI'"):
        table(of_datasets("lgg_mri"), published_datasets={"lgg_mri": "LGG-MRI"})


@pytest.mark.parametrize("experiment", ["uflow_table5", "uflow_table8"])
def test_experiments_compare_every_cell_with_a_published_value(experiment):
    bench = load_bench({}, ROOT / "workflow" / "experiments")
    cells = expand(bench, experiment, Catalogue(bench).available)
    assert len(cells) == 4 * 5 * 3
    methods = {"fastflow": "FastFlow", "cflow": "CFLOW-AD", "csflow": "CS-Flow", "uflow-cait": "U-Flow"}
    methods = {f"{method}-all": title for method, title in methods.items()}
    for config in bench.experiment(experiment).tables.values():
        for cell in cells:
            published = published_table(config.published, None, config.published_datasets[cell.dataset])
            assert published.value(methods[cell.method], cell.category, config.metric) is not None
    assert bench.dataset("shanghaitech-every25").stride == 25


def test_a_user_with_one_of_the_datasets_measures_that():
    bench = load_bench({"categories": "01,02,03"}, ROOT / "workflow" / "experiments")
    assert {cell.dataset for cell in expand(bench, "uflow_table5", lambda dataset: [])} == {"btad"}
