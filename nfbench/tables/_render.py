"""Rendering of tables as LaTeX (booktabs), HTML, CSV and plain text."""

import csv
import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jinja2

from nfbench.core.files import shield
from nfbench.results.compare import Comparison
from nfbench.tables._holes import HOLE_MARK
from nfbench.tables._model import PUBLISHED_ONLY, Cell, Column, Table, Text, exact, published_cell

__all__ = ["align", "measured", "to_csv", "to_html", "to_latex", "to_text"]

_STATUS_MARKS = {
    "reproduced": "=", "close": r"$\approx$", "off": r"$\neq$", "missing": "--", "measured": "", "incomparable": "",
    PUBLISHED_ONLY: "",
}  # fmt: skip
_COMPARED = ("measured", "published", "difference", "status")
_CSV_VALUES = ("mean", "std", "n_seeds", "published", "published_std", "difference", "status", "trust", "holes")

_LATEX_ESCAPES = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}"}
)  # fmt: skip


_LIGATURE = re.compile("(?<=-)(?=-)|(?<=')(?=')|(?<=`)(?=`)|(?<=[!?])(?=`)")
"""Separator of characters that LaTeX would join, such as two hyphens to a dash."""

_UPRIGHT = 12
"""Maximum number of columns of upright LaTeX tables."""

_HEADING = 24
"""Maximum number of characters in a line of a LaTeX heading."""

_NO_LABEL = re.compile(r"[^\w.:+@=-]")
"""Characters that are invalid in a label."""

_HTML = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ table.name }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; white-space: nowrap; }
caption { caption-side: top; text-align: left; white-space: normal; margin-bottom: 1rem; max-width: min(73rem, 94vw); }
th, td { padding: .3rem .7rem; text-align: right; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
thead tr:last-child th { border-bottom: 2px solid #222; }
tr.average td { border-top: 1px solid #999; border-bottom: 1px solid #999; font-weight: 600; }
.reproduced { color: #17692f; } .close { color: #8a5a00; } .off { color: #a8201a; } .missing { color: #777; }
.published { color: #555; } .doubtful { text-decoration: underline dotted; }
</style>
</head>
<body>
<div class="scroll">
<table>
<caption>{{ table.caption }}</caption>
<thead>
{% if headings %}
<tr>{% for _ in table.heads %}<th></th>{% endfor %}

{% for title, details, width in headings %}
<th colspan="{{ width }}">{{ title }}\
{% if details %}<br>{{ details }}{% elif title %} ({{ table.source }}){% endif %}</th>
{% endfor %}
</tr>
{% endif %}
<tr>{% for head in table.heads %}<th>{{ head }}</th>{% endfor %}

{% for head in heads %}<th>{{ head }}</th>{% endfor %}
</tr>
</thead>
<tbody>
{% for row in table.rows %}
<tr{% if row.is_average %} class="average"{% endif %}>\
{% for label in row.labels %}<td>{{ label }}</td>{% endfor %}

{% for part in parts(row) %}
<td{% if part.style %} class="{{ part.style }}"{% endif %}{% if part.hint %} title="{{ part.hint }}"{% endif %}>\
{{ part.text }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% for mark, note in table.footnotes.items() %}
<p>{{ mark }}: {{ note }}</p>
{% endfor %}
</body>
</html>
""")


def to_html(table: Table) -> str:
    """Render a self-contained page without scripts or network access."""
    names = _COMPARED if table.source else _COMPARED[:1]
    heads = [head for column in table.columns for head in ([column.title] if column.is_text else names)]
    return _HTML.render(
        table=table,
        headings=_headings(table, len(names)),
        heads=heads,
        parts=lambda row: [part for cell in row.cells for part in _parts(cell)[: len(names)]],
    )


def to_latex(table: Table) -> str:
    """Render a ``table`` environment; see ``latex_table``."""
    names = ("measured", "publ.", r"$\Delta$") if table.source else ("measured",)
    labels = table.heads[1:] if table.grouped else table.heads
    heads, aligned = [*map(escape_latex, labels)], "l" * len(labels)
    for column in table.columns:
        heads += [escape_latex(column.title)] if column.is_text else names
        aligned += column.align if column.is_text else "r" * len(names)
    above = [latex_line(heads)]
    if headings := _headings(table, len(names)):
        blank, last, rules = [""] * len(labels), len(labels), []
        for *_, width in headings:
            rules.append(rf"\cmidrule(lr){{{last + 1}-{last + width}}}")
            last += width
        titles = [rf"\multicolumn{{{width}}}{{c}}{{{_stacked(title)}}}" for title, _, width in headings]
        small = [rf"\footnotesize {_stacked(text)}" if text else "" for _, text, _ in headings]
        details = [
            rf"\multicolumn{{{width}}}{{c}}{{{text}}}" for text, (*_, width) in zip(small, headings, strict=True)
        ]
        above = [latex_line([*blank, *titles]), latex_line([*blank, *details]), " ".join(rules), *above]
    below = []
    if table.source and any(cell.status not in ("incomparable", PUBLISHED_ONLY) for _, _, cell in table.comparisons()):
        below.append(r"\par\smallskip\footnotesize = reproduced, $\approx$ close, $\neq$ off")
    if table.footnotes:
        below.append(r"\smallskip\footnotesize\raggedright")
        below += [rf"\par\textsuperscript{{{mark}}} {escape_latex(note)}" for mark, note in table.footnotes.items()]
    return latex_table(table.name, table.caption, aligned, above, _latex_body(table, len(heads)), below)


def to_csv(table: Table) -> str:
    """Render one line per measured or published cell, in percent with all digits; one line per row for text."""
    records = list(_records(table))
    heads = dict.fromkeys(head for record in records for head in record)
    return csv_text([list(heads), *([record.get(head, "") for head in heads] for record in records)])


def to_text(table: Table) -> str:
    """Render a plain table for the terminal: measured values, published ones in brackets, notes below."""
    shown = [number for number, column in enumerate(table.columns) if not column.group]
    columns = [table.columns[number] for number in shown]
    body = [[*row.labels, *(_plain(row.cells[number]) for number in shown)] for row in table.rows]
    heads = [[*table.heads, *(column.title if column.is_text else table.details(column) for column in columns)]]
    if table.measured:
        heads.insert(0, [*[""] * len(table.heads), *("" if c.is_text else c.title for c in columns)])
    notes = [f"{mark}: {note}" for mark, note in table.footnotes.items()]
    return "\n".join([align(heads, body), *([""] if notes else []), *notes])


def _headings(table: Table, width: int) -> list[tuple[str, str, int]]:
    """Title, second line and width of the headings above the columns; empty if all columns are text."""

    def heading(numbered: tuple[int, Column]) -> tuple[int | str, str, str]:
        number, column = numbered
        return ("text", column.group, "") if column.is_text else (number, column.title, table.details(column))

    if not table.measured:
        return []
    grouped = itertools.groupby(enumerate(table.columns), heading)
    return [(title, details, len([*found]) if key == "text" else width) for (key, title, details), found in grouped]


def _parts(cell: Cell) -> list[Text]:
    """Parts shown side by side: measured value; published value, difference and status if compared."""
    if isinstance(cell, Text):
        return [cell]
    difference = "" if math.isnan(cell.difference) else f"{cell.difference:+.2f}"
    return [Text(measured(cell)), published_cell(cell.published), Text(difference), Text(cell.status, {}, cell.status)]


def measured(cell: Comparison) -> str:
    """Format a mean over seeds with its standard deviation."""
    mark = HOLE_MARK if cell.holes else ""
    if math.isnan(cell.mean):
        return f"–{mark}"
    return (f"{cell.mean:.2f}" if math.isnan(cell.std) else f"{cell.mean:.2f} ± {cell.std:.2f}") + mark


def _plain(cell: Cell) -> str:
    shown, *beside = _parts(cell)
    return shown.text + (f" [{beside[0].text}]" if isinstance(cell, Comparison) and cell.published else "")


def _latex_body(table: Table, width: int) -> list[str]:
    lines: list[str] = []
    group = None
    for row in table.rows:
        labels: Sequence[str] = row.labels
        if table.grouped:
            first, *labels = row.labels
            if first != group:
                lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(first)}}}}} \\"]
            group = first
        elif not lines:
            lines.append(r"\midrule")
        if row.is_average:
            lines.append(r"\addlinespace")
        lines.append(latex_line([*map(escape_latex, labels), *(part for c in row.cells for part in _latex(c, table))]))
    return lines


def _latex(cell: Cell, table: Table) -> list[str]:
    """Render a cell in LaTeX; the status is a mark after the difference."""
    shown, *beside = (escape_latex(part.text) for part in _parts(cell))
    if isinstance(cell, Text) or not table.source:
        return [shown]
    published, difference, _ = beside
    return [shown, published, f"{difference.replace('-', '$-$')} {_STATUS_MARKS[cell.status]}".strip()]


def _records(table: Table) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        labels = dict(zip(table.heads, row.labels, strict=True))
        records = [_record(table, *pair) for pair in zip(table.columns, row.cells, strict=True)]
        if table.measured:
            yield from (labels | record for record in records)
        else:
            yield labels | {key: value for record in records for key, value in record.items()}


def _record(table: Table, column: Column, cell: Cell) -> dict[str, Any]:
    title, backbone, selection = table.keys
    where = {title: column.title} if table.measured else {}
    if isinstance(cell, Text):
        return where | (dict(cell.record) or {column.title: cell.text})
    found = {"mean": exact(cell.mean), "std": exact(cell.std), "n_seeds": cell.n_seeds, "holes": cell.holes}
    found |= {"difference": exact(cell.difference), **published_cell(cell.published, status=cell.status).record}
    where |= {backbone: column.backbone, selection: column.selection}
    return where | {name: found[name] for name in _CSV_VALUES}


def escape_latex(text: str) -> str:
    """Escape text for LaTeX, in one line."""
    line = " ".join(text.split()).translate(_LATEX_ESCAPES).replace("±", r"$\pm$").replace("†", r"$^\dagger$")
    return _LIGATURE.sub("{}", line)


def _stacked(text: str) -> str:
    """Render a heading in LaTeX, over several lines if it is long."""
    lines = [escape_latex(line) for line in textwrap.wrap(text, _HEADING, break_long_words=False)]
    stacked = r" \\{} ".join(lines)  # else a bracket or star would be an argument
    return rf"\shortstack{{{stacked}}}" if len(lines) > 1 else stacked


def latex_line(cells: Iterable[str]) -> str:
    r"""Render a line of a LaTeX table from escaped cells.

    Without protection, a leading bracket or star would be an argument of the preceding ``\\`` or rule.
    """
    line = " & ".join(cells) + r" \\"
    return "{}" + line if line.lstrip().startswith(("[", "*")) else line


def latex_table(
    name: str, caption: str, columns: str, heads: Sequence[str], body: Sequence[str], below: Sequence[str] = ()
) -> str:
    r"""Render a ``table`` environment that needs ``booktabs`` and ``graphicx`` and shrinks to the line width.

    A wide table becomes a ``sidewaystable`` on its own page and also needs ``rotating``.

    Args:
        name: name of the table, used as label.
        caption: unescaped caption.
        columns: column specification of ``tabular``.
        heads: lines of the heading.
        body: lines of the rows, with the rules between them.
        below: lines below the table.
    """
    environment = "sidewaystable" if len(columns) > _UPRIGHT else "table"
    lines = [
        rf"\begin{{{environment}}}",
        r"\centering",
        rf"\caption{{{escape_latex(caption)}}}",
        rf"\label{{tab:{_NO_LABEL.sub('-', name)}}}",
        r"\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *heads,
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        *below,
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Render rows as CSV, the heading first; see ``nfbench.core.files.shield``."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(shield, row) for row in rows)
    return buffer.getvalue()


def align(heads: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> str:
    """Align columns to equal width, with a line below the heads."""
    lines = [*heads, *body]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    printed = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    printed.insert(len(heads), "-" * len(printed[0]))
    return "\n".join(line.rstrip() for line in printed)
