"""Every kind of table meets its contract: it is built from its example, escapes text, and is traced completely."""

import csv
import io
import math
import shutil

import pytest

from nfbench.config import TableConfig
from nfbench.core.registry import plugin_names
from nfbench.plan.code import reachable
from nfbench.plan.experiment_specs import TableSpec
from nfbench.plan.paths import Paths
from nfbench.results.aggregate import aggregate, read_results, write_results
from nfbench.stages.tables import build_table, table_of
from nfbench.tables._explain import describe_cell, find_cell, runs_of
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from tests.executed import Executed
from tests.tables.test_tables import compile_latex
from tests.whole import whole_runs

pytestmark = pytest.mark.usefixtures("parsed_once")

KINDS = plugin_names(TableConfig.package)
HOSTILE = r" <b>5$_$ & \frac{1}{2} 100 % #1 {{ x }}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Results of runs with all possible outputs, with titles that are code in HTML and LaTeX."""
    folder = tmp_path_factory.mktemp("whole")
    results = aggregate(run.record for run in whole_runs(folder, title=HOSTILE, conditions=("", "blur2")))
    path = Paths(folder / "results").experiment("made_up", "results.parquet")
    path.parent.mkdir(parents=True)
    write_results(path, results)
    return folder / "results"


@pytest.fixture(params=KINDS)
def spec(root, request):
    """Spec of the stage for the example of a kind, with a hostile title."""
    example = TableConfig.of_kind(request.param).example
    table = TableConfig.model_validate({"kind": request.param, **example, "title": f"{example['title']}{HOSTILE}"})
    variants = {name: {"method": name} for name, _ in table.built}
    return TableSpec(experiment="made_up", root=str(root), name=request.param, table=table, variants=variants)


@pytest.mark.parametrize("kind", KINDS)
def test_description(kind):
    model = TableConfig.of_kind(kind)
    assert model.model_fields["kind"].default == kind
    assert model.__doc__ != TableConfig.__doc__
    assert all(field.description for name, field in model.model_fields.items() if name != "kind")


def test_every_form_shows_every_cell(spec):
    table = table_of(spec)
    assert table.rows
    assert all(len(row.cells) == len(table.columns) and len(row.labels) == len(table.heads) for row in table.rows)
    assert table.caption.startswith(spec.table.title)
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(lines) == len(table.rows) * (len(table.columns) if table.measured else 1)
    assert all(None not in line and None not in line.values() for line in lines)
    page = to_html(table)
    assert "<b>" not in page
    assert page.count("<tr") >= 1 + len(table.rows)
    assert to_text(table).count("\n") > len(table.rows)


@pytest.mark.parametrize(("n_normal", "what"), [(0, "no test images"), (4, "no anomalous test images")])
def test_undefined_values_say_which_test_images_they_need(root, spec, n_normal, what, tmp_path):
    path = Paths(tmp_path).experiment("made_up", "results.parquet")
    path.parent.mkdir(parents=True)
    results = read_results(Paths(root).experiment("made_up", "results.parquet"))
    counts = dict.fromkeys(("n_test", "n_test_normal"), n_normal) | dict.fromkeys(("n_regions", "n_defects"), 0)
    write_results(path, results.assign(value=math.nan, image_side=0, **counts))
    table = table_of(spec.model_copy(update={"root": str(tmp_path)}))
    assert all(write(table) for write in (to_csv, to_html, to_latex, to_text))
    undefined = [cell for *_, cell in table.comparisons() if len(cell.runs) and math.isnan(cell.mean)]
    assert f"({what})" in table.caption or not undefined


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(spec, tmp_path):
    compile_latex(to_latex(table_of(spec)), tmp_path)


def test_every_cell_is_explained(spec):
    table = table_of(spec)
    for row, column, cell in table.comparisons():
        assert cell.n_seeds == 0 or len(cell.runs), (row.labels, column.title)
    first = table.columns[0]
    found = find_cell(table, "/".join(table.rows[0].labels), "/".join({first.title, first.backbone} - {""}))
    assert next(describe_cell(found)).startswith(f"{spec.name}, row ")
    assert bool(list(runs_of(found))) == spec.table.from_runs


@pytest.mark.slow
def test_all_that_runs_is_part_of_the_jobs_code(spec):
    with Executed() as executed:
        build_table(spec)
    reached = set(reachable(f"nfbench.stages.{spec.function}", *spec.plugins))
    assert f"{spec.table.module}:{type(spec.table).__name__}" in executed.names
    assert not executed.names - reached, sorted(executed.names - reached)
