"""Tables of parameters: exact counts, published numbers at their precision, and the reasons where they differ."""

import csv
import io
import shutil
from functools import cache
from pathlib import Path

import pytest

from nfbench.config import VariantConfig, load_bench
from nfbench.core.errors import NfbenchError
from nfbench.tables._model import Source
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from nfbench.tables.parameters import ParametersTable
from tests.tables.test_tables import compile_latex

EXPERIMENTS = Path(__file__).parents[2] / "workflow" / "experiments"

# method or variant, backbone with levels if not its own; counted flow, counted normalization, published, equal
TABLE4 = {
    ("uflow", "resnet18.a1_in1k@448"): (1_479_880, 2_809_856, "4.3", ("total",)),
    ("uflow", "wide_resnet50_2.racm_in1k@448"): (23_594_080, 11_239_424, "34.8", ("total",)),
    ("uflow-cait", "cait_m48_448@448"): (8_858_112, 0, "8.9", ("flow", "total")),
    ("uflow-cait", "ms_cait@448"): (12_216_480, 0, "12.2", ("flow", "total")),
    ("fastflow", "resnet18.tv_in1k@256"): (4_657_408, 917_504, "4.9", ()),
    ("fastflow", "resnet18.tv_in1k@256-l0123"): (4_880_384, 3_014_656, "4.9", ("flow",)),
    ("fastflow", "wide_resnet50_2.racm_in1k@256"): (41_337_856, 3_670_016, "41.3", ("flow",)),
    ("fastflow-cait", "cait_m48_448@448"): (7_074_500, 0, "14.8", ()),
    ("fastflow-cait-wide", "cait_m48_448@448"): (14_794_240, 0, "14.8", ("flow", "total")),
    ("cflow", "resnet18.tv_in1k@256-l234-reflect"): (8_620_032, None, "5.5", ()),
    ("cflow", "resnet18.tv_in1k@256-l4-reflect"): (5_523_456, None, "5.5", ("flow", "total")),
    ("cflow", "wide_resnet50_2.tv_in1k@256-l234-reflect"): (81_647_616, None, "81.6", ("flow", "total")),
    ("cflow", "cait_m48_448@448"): (10_512_384, None, "10.5", ("flow", "total")),
    ("csflow", "efficientnet_b5@768"): (275_227_288, None, "275", ("flow", "total")),
}


@cache
def bench():
    return load_bench({}, EXPERIMENTS)


def table4():
    return bench().experiment("uflow_table4").tables["uflow_table4"]


def counted(config):
    return config.make("t", Source(None, variants={name: bench().variant(name) for name, _ in config.built}))


def read(table):
    """The line of a table of one model."""
    (line,) = csv.DictReader(io.StringIO(to_csv(table)))
    return line


def made(*rows, **keys):
    return counted(table4().model_copy(update={"rows": rows, **keys}))


def row_of(method, tag):
    return next(row for row in table4().rows if (row.method, row.backbone.tag) == (method, tag))


@pytest.mark.parametrize(("method", "tag"), TABLE4, ids=lambda name: name)
def test_counts_of_table_4(method, tag):
    flow, normalization, published, equal = TABLE4[method, tag]
    count = read(made(row_of(method, tag)))
    assert int(count["flow"]) == flow
    assert int(count.get("normalization", 0)) == (normalization or 0)
    assert int(count["total"]) == flow + (normalization or 0)
    assert count["published"] == published
    assert count["equal"] == (", ".join(equal) or "none")


def test_table_4_is_complete_and_explains_what_is_not_reached():
    rows = table4().rows
    assert [(row.method, row.backbone.tag) for row in rows] == list(TABLE4)
    for row, (_, _, published, equal) in zip(rows, TABLE4.values(), strict=True):
        if not equal:
            assert row.explanation.startswith("No public configuration")
            assert f"{published} M" in row.explanation


@pytest.mark.parametrize(
    ("method", "settings", "backbone", "flow"),
    [
        ("fastflow", {"flow_steps": 20, "hidden_ratio": 0.16, "kernels": "3x3", "normalization": "none"},
         {"name": "cait_m48_448", "input_size": 448}, 12_696_260),
        ("fastflow", {"flow_steps": 20, "hidden_ratio": 0.186, "kernels": "3x3", "normalization": "none"},
         {"name": "cait_m48_448", "input_size": 448}, 14_770_060),
        ("fastflow", {"kernels": "alternating"}, {"name": "resnet18.tv_in1k", "levels": [0, 1, 2, 3]}, 2_717_696),
        ("fastflow", {}, {"name": "wide_resnet50_2.racm_in1k", "levels": [0, 1, 2, 3]}, 41_462_528),
        ("cflow", {}, {"name": "resnet18.tv_in1k", "levels": [1, 2, 3]}, 3_674_112),
        ("uflow", {"normalization": "none"}, {"name": "resnet18.a1_in1k"}, 1_479_880),
    ],
)  # fmt: skip
def test_counts_that_explanations_name(method, settings, backbone, flow):
    variants = {"x": VariantConfig(method=method, settings=settings)}
    config = ParametersTable(title="x", rows=[{"method": "x", "backbone": backbone}])
    count = read(config.make("t", Source(None, variants=variants)))
    assert int(count["flow"]) == flow
    assert (count["published"], count["equal"]) == ("", "")


@pytest.fixture(scope="module")
def table():
    rows = [row_of(*key) for key in (("uflow", "resnet18.a1_in1k@448"), ("fastflow", "resnet18.tv_in1k@256"))]
    noted = rows[1].model_copy(update={"explanation": "a < b & c_d"})
    return made(rows[0].model_copy(update={"explanation": ""}), noted, title="T & <b>")


def test_text_shows_counts_and_notes(table):
    text = to_text(table)
    assert "1,479,880  2,809,856      4,289,736  4.3 M      total" in text
    assert "5,574,912  4.9 M      none   a" in text
    assert text.endswith("a: a < b & c_d")


def test_csv_has_one_line_per_model(table):
    first, second = csv.DictReader(io.StringIO(to_csv(table)))
    assert list(first) == [
        "method", "backbone", "settings", "flow", "normalization", "total", "published", "unit", "equal", "trust",
        "explanation",
    ]  # fmt: skip
    assert (first["method"], first["backbone"], first["total"]) == ("U-Flow", "resnet18.a1_in1k@448", "4289736")
    assert (first["published"], first["unit"], first["equal"]) == ("4.3", "millions", "total")
    assert (second["equal"], second["trust"], second["explanation"]) == ("none", "trusted", "a < b & c_d")


def test_html_is_escaped_and_stands_alone(table):
    page = to_html(table)
    assert "T &amp; &lt;b&gt;: trainable parameters" in page
    assert "<p>a: a &lt; b &amp; c_d</p>" in page
    assert "<b>" not in page
    assert "http" not in page


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(table, tmp_path):
    compile_latex(to_latex(table), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "uflw"}, r"unknown method 'uflw'; did you mean 'uflow'\?"),
        ({"backbone": {"name": "resnet18.tv"}}, "unknown backbone 'resnet18.tv'; did you mean 'resnet18.tv_in1k'"),
        ({"backbone": {"name": "resnet18.tv_in1k", "levels": [7]}}, r"has levels \[0, 1, 2, 3, 4\], not \[7\]"),
        ({"published": {"backbone": "ResNet-18"}}, "has 0 rows with method 'U-Flow', backbone 'ResNet-18'"),
    ],
)
def test_what_is_not_there_is_named(change, message):
    values = {"method": "uflow", "backbone": {"name": "resnet18.tv_in1k"}, **change}
    config = ParametersTable(title="x", rows=[values], published="uflow_table4_parameters")
    with pytest.raises(NfbenchError, match=message):
        counted(config)


def test_a_number_that_counts_nothing_is_refused():
    row = {"method": "uflow", "backbone": {"name": "resnet18.tv_in1k"}}
    where = {"category": "bottle", "metric": "pixel_auroc"}
    config = ParametersTable(title="x", rows=[{**row, "published": where}], published="uflow_table1_pixel_auroc")
    with pytest.raises(NfbenchError, match=r"table 't': '98\.65 percent' of .* is not a number"):
        counted(config)
