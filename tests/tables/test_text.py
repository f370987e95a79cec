"""Text of tables: LaTeX, HTML and spreadsheets show names and titles literally."""

import csv
import io
import re
from dataclasses import replace

import pytest

from nfbench.core.files import shield, unshield, write_csv
from nfbench.core.seals import known_files, write_sealed
from nfbench.results.files import ImageScore, file_of, read_rows, record_of, write_rows
from nfbench.tables import _render as render
from nfbench.tables._model import Column, Text
from nfbench.tables._render import csv_text, escape_latex, latex_line, latex_table
from tests.tables.making import make_table
from tests.tables.test_tables import CONFIG, results

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "=", "+", "-", "@", "'=1", "'x", "''"]
PLAIN = ["bottle", "-0.5", "+1", "-1e-3", "-inf", "a=b", "a-b", "", "–", "5$_$", "a'b", "x,y", 'x"y', "a\nb"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_a_formula(text):
    (row,) = csv.reader(io.StringIO(csv_text([(text, "b")]), newline=""))
    assert row == [f"'{text}", "b"]
    assert unshield(shield(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_and_numbers_stay(text):
    assert shield(text) == text
    assert unshield(text) == text
    assert [shield(value) for value in (-0.5, -1, None)] == [-0.5, -1, None]


def test_files_of_runs_are_read_as_they_were_written(tmp_path):
    rows = [ImageScore(text, 1, text, -0.5, 1.0, 2.0, -3.0) for text in FORMULAS + PLAIN]
    write_rows(ImageScore, tmp_path, rows)
    (known,) = known_files(tmp_path, [file_of(ImageScore)]).values()
    write_sealed(tmp_path / record_of(ImageScore), {"written": {file_of(ImageScore): known.model_dump()}})
    assert read_rows(ImageScore, tmp_path) == rows
    written = (tmp_path / file_of(ImageScore)).read_text()
    assert "\n'=1+1,1,'=1+1,-0.5,1,2,-3\n" in written
    write_csv(tmp_path / "x.csv", ("a",), [("=1",), (-1.0,)])
    assert (tmp_path / "x.csv").read_text() == "a\n'=1\n-1\n"


@pytest.mark.parametrize("label", ["[b]", "*", "[", "*x", " [b]"])
def test_a_line_is_no_argument_of_the_one_before(label):
    line = latex_line([escape_latex(label), "1.0"])
    assert line.startswith("{}")
    assert escape_latex(label) in line
    assert latex_line(["bottle", "[b]"]) == r"bottle & [b] \\"
    assert latex_line(["", "[b]"]) == r" & [b] \\"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a_b", r"a\_b"),
        ("100 %", r"100 \%"),
        ("a&b#c$d", r"a\&b\#c\$d"),
        ("{x}\\y", r"\{x\}\textbackslash{}y"),
        ("a--b---c", "a-{}-b-{}-{}-c"),
        ("a|b", r"a\textbar{}b"),
        ("``x''", "`{}`x'{}'"),
        ("<b>~^", r"$<$b$>$\textasciitilde{}\textasciicircum{}"),
        ("two\n\nparagraphs", "two paragraphs"),
        ("a-b", "a-b"),
    ],
)
def test_latex_prints_text_as_it_is(text, printed):
    assert escape_latex(text) == printed


@pytest.mark.parametrize(("name", "label"), [("own_table", "own_table"), ("a%b#c", "a-b-c"), ("5$_$ x", "5-_--x")])
def test_labels_of_latex_are_plain(name, label):
    assert rf"\label{{tab:{label}}}" in latex_table(name, "caption", "l", [], [])


def test_text_stands_beside_measured_values_in_every_form():
    measured = make_table(CONFIG.model_copy(update={"published": None}), results(["bottle"]))
    (row,) = measured.rows
    columns = (*measured.columns, Column("A & B", is_text=True, align="l"))
    table = replace(measured, columns=columns, rows=(replace(row, cells=(*row.cells, Text("<worst>", hint="of 1"))),))
    assert r"\begin{tabular}{lrl}" in render.to_latex(table)
    assert r" & measured & A \& B \\" in render.to_latex(table)
    assert '<td title="of 1">&lt;worst&gt;</td>' in render.to_html(table)
    assert [line["A & B"] for line in csv.DictReader(io.StringIO(render.to_csv(table)))] == ["", "<worst>"]
    assert render.to_text(table).splitlines()[-1].endswith("<worst>")


@pytest.mark.parametrize("label", ["[b]", "*", "=1+1", "<b>bold</b>", "5$_$", "{{ x }}", "a & b"])
def test_a_whole_table_takes_any_label(label):
    table = make_table(CONFIG, results())
    rows = tuple(replace(row, labels=(row.labels[0], label)) for row in table.rows[:1])
    columns = tuple(replace(column, title=label) for column in table.columns)
    table = replace(table, rows=rows, columns=columns, caption=label)
    latex = render.to_latex(table)
    assert not re.search(r"(\\\\|\\(?:top|mid|bottom)rule|\\addlinespace)\s*[\[*]", latex)
    lines = list(csv.DictReader(io.StringIO(render.to_csv(table))))
    assert unshield(lines[0]["category"]) == unshield(lines[0]["method"]) == label
    assert not lines[0]["category"].startswith("=")
    html = render.to_html(table)
    assert "<b>bold" not in html
    assert label in render.to_text(table)
