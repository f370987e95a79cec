"""Writes a table of results as LaTeX (booktabs), HTML, CSV and plain text."""

import math

from nfbench.reference import PublishedValue
from nfbench.results.compare import Comparison
from nfbench.tables.holes import HOLE_MARK
from nfbench.tables.model import AVERAGE, Table
from nfbench.tables.pages import PAGES, align, csv_text, escape_latex, latex_line, latex_table

__all__ = ["to_csv", "to_html", "to_latex", "to_text"]

_STATUS_MARKS = {
    "reproduced": "=", "close": r"$\approx$", "off": r"$\neq$", "missing": "--", "measured": "", "incomparable": "",
}  # fmt: skip
_CSV_VALUES = ("mean", "std", "n_seeds", "published", "difference", "status", "trust", "holes")

_HTML = PAGES.from_string("""\
{% extends "page" %}
{% block table %}
<caption>{{ table.caption }}</caption>
<thead>
<tr><th></th><th></th>
{% for column in table.columns %}
<th colspan="{{ 4 if table.source else 1 }}">{{ column.title }}<br>{{ table.details(column) }}</th>
{% endfor %}
{% if table.others %}<th colspan="{{ table.others | length }}">published only ({{ table.source }})</th>{% endif %}
</tr>
<tr><th>dataset</th><th>{{ table.keys[1] }}</th>
{% for column in table.columns %}<th>measured</th>
{% if table.source %}<th>published</th><th>difference</th><th>status</th>{% endif %}
{% endfor %}
{% for method in table.others %}<th>{{ method }}</th>{% endfor %}
</tr>
</thead>
<tbody>
{% for row in table.rows %}
<tr{% if row.category == average %} class="average"{% endif %}><td>{{ row.dataset }}</td><td>{{ row.category }}</td>
{% for cell in row.cells %}<td>{{ measured(cell) }}</td>
{% if table.source %}<td class="published{{ ' doubtful' if cell.published and not cell.published.trusted }}"\
{% if cell.published and cell.published.note %} title="{{ cell.published.note }}"{% endif %}>\
{{ published(cell.published) }}</td><td>{{ difference(cell) }}</td>\
<td class="{{ cell.status }}">{{ cell.status }}</td>{% endif %}
{% endfor %}
{% for value in row.published %}<td class="published"{% if value and value.note %} title="{{ value.note }}"{% endif %}>\
{{ published(value) }}</td>{% endfor %}
</tr>
{% endfor %}
</tbody>
{% endblock %}
""")


def to_html(table: Table) -> str:
    """A page of its own, without scripts or network."""
    helpers = {"measured": _measured, "published": _published, "difference": _difference}
    return _HTML.render(table=table, average=AVERAGE, **helpers) + "\n"


def to_latex(table: Table) -> str:
    """A ``table`` environment; see ``latex_table``."""
    with_published = bool(table.source)
    per_column = 3 if with_published else 1
    groups = [rf"\multicolumn{{{per_column}}}{{c}}{{{escape_latex(column.title)}}}" for column in table.columns]
    backbones = [
        rf"\multicolumn{{{per_column}}}{{c}}{{\footnotesize {escape_latex(table.details(c))}}}" for c in table.columns
    ]
    heads = (["measured", "publ.", r"$\Delta$"] if with_published else ["measured"]) * len(table.columns)
    if table.others:
        groups.append(rf"\multicolumn{{{len(table.others)}}}{{c}}{{published only}}")
        backbones.append(rf"\multicolumn{{{len(table.others)}}}{{c}}{{}}")
    heads += [escape_latex(method) for method in table.others]
    rules = " ".join(rf"\cmidrule(lr){{{first}-{last}}}" for first, last in _group_spans(table, per_column))
    above = [latex_line(["", *groups]), latex_line(["", *backbones]), rules, latex_line([table.keys[1], *heads])]
    compared = with_published and any(cell.status != "incomparable" for row in table.rows for cell in row.cells)
    below = [r"\par\smallskip\footnotesize = reproduced, $\approx$ close, $\neq$ off"] if compared else []
    body = _latex_body(table, with_published)
    return latex_table(table.name, table.caption, f"l{'r' * len(heads)}", above, body, below)


def to_csv(table: Table) -> str:
    """One line per cell, measured and published-only cells alike, values in percent with all digits."""
    lines = [(*table.keys, *_CSV_VALUES)]
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            published, trust = _csv_published(cell.published)
            where = (row.dataset, row.category, column.title, column.backbone, column.selection)
            compared = (published, _exact(cell.difference), cell.status, trust, cell.holes)
            lines.append((*where, _exact(cell.mean), _exact(cell.std), cell.n_seeds, *compared))
        for method, value in zip(table.others, row.published, strict=True):
            published, trust = _csv_published(value)
            lines.append((row.dataset, row.category, method, *[""] * 5, published, "", "published only", trust, ""))
    return csv_text(lines)


def to_text(table: Table) -> str:
    """A plain table for the terminal: measured values, with published ones in brackets."""
    body = [[row.dataset, row.category, *(_measured_and_published(cell) for cell in row.cells)] for row in table.rows]
    heads = [
        ["", "", *(column.title for column in table.columns)],
        [*table.keys[:2], *(table.details(column) for column in table.columns)],
    ]
    return align(heads, body)


def _measured_and_published(cell: Comparison) -> str:
    return _measured(cell) + (f" [{_published(cell.published)}]" if cell.published else "")


def _latex_body(table: Table, with_published: bool) -> list[str]:
    lines: list[str] = []
    dataset = ""
    width = 1 + len(table.columns) * (3 if with_published else 1) + len(table.others)
    for row in table.rows:
        if row.dataset != dataset:
            dataset = row.dataset
            lines += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape_latex(dataset)}}}}} \\"]
        cells = [escape_latex(row.category)]
        for cell in row.cells:
            cells.append(_measured(cell).replace("±", r"$\pm$").replace(HOLE_MARK, r"$^\dagger$"))
            if with_published:
                mark = _STATUS_MARKS[cell.status]
                cells += [_published(cell.published), f"{_difference(cell).replace('-', '$-$')} {mark}".strip()]
        cells += [_published(value) for value in row.published]
        if row.category == AVERAGE:
            lines.append(r"\addlinespace")
        lines.append(latex_line(cells))
    return lines


def _group_spans(table: Table, per_column: int) -> list[tuple[int, int]]:
    spans = [(2 + per_column * index, 1 + per_column * (index + 1)) for index in range(len(table.columns))]
    if table.others:
        spans.append((spans[-1][1] + 1, spans[-1][1] + len(table.others)))
    return spans


def _measured(cell: Comparison) -> str:
    mark = HOLE_MARK if cell.holes else ""
    if math.isnan(cell.mean):
        return f"–{mark}"
    return (f"{cell.mean:.2f}" if math.isnan(cell.std) else f"{cell.mean:.2f} ± {cell.std:.2f}") + mark


def _published(value: PublishedValue | None) -> str:
    return "–" if value is None else f"{value.value:.2f}{'' if value.trusted else ' ?'}"


def _difference(cell: Comparison) -> str:
    return "" if math.isnan(cell.difference) else f"{cell.difference:+.2f}"


def _csv_published(value: PublishedValue | None) -> tuple[str, str]:
    return ("", "") if value is None else (_exact(value.value), "trusted" if value.trusted else "doubtful")


def _exact(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"
