"""Writes a table of parameters as LaTeX (booktabs), HTML, CSV and plain text."""

import string

from nfbench.tables.pages import PAGES, align, csv_text, escape_latex, latex_line, latex_table
from nfbench.tables.parameters import Count, ParametersTable

__all__ = ["to_csv", "to_html", "to_latex", "to_text"]

_ABBREVIATIONS = {"millions": "M"}

_HTML = PAGES.from_string("""\
{% extends "page" %}
{% block table %}
<caption>{{ table.caption }}</caption>
<thead>
<tr><th>method</th><th>backbone</th><th>settings</th>
{% for part in table.parts %}<th>{{ part }}</th>{% endfor %}
<th>total</th><th>published</th><th>equal</th><th>note</th></tr>
</thead>
<tbody>
{% for row, note in noted %}
<tr><td>{{ row.method }}</td><td>{{ row.backbone }}</td><td>{{ row.settings }}</td>
{% for part in table.parts %}<td>{{ number(row.parts.get(part)) }}</td>{% endfor %}
<td>{{ number(row.total) }}</td><td class="published">{{ published(row) }}</td>
<td class="{{ 'reproduced' if row.equal else 'off' }}">{{ equal(row) }}</td><td>{{ note }}</td></tr>
{% endfor %}
</tbody>
{% endblock %}
{% block notes %}
{% for row, note in noted if note %}
<p>{{ note }}: {{ row.explanation }}</p>
{% endfor %}
{% endblock %}
""")


def to_html(table: ParametersTable) -> str:
    """A page of its own, without scripts or network."""
    helpers = {"number": _number, "published": _published, "equal": _equal}
    return _HTML.render(table=table, noted=_noted(table), **helpers) + "\n"


def to_latex(table: ParametersTable) -> str:
    """A ``table`` environment with the notes below; see ``latex_table``."""
    heads, *body = [latex_line(map(escape_latex, line)) for line in (_heads(table), *_body(table))]
    notes = [rf"\par\textsuperscript{{{note}}} {escape_latex(row.explanation)}" for row, note in _noted(table) if note]
    columns = f"lll{'r' * (len(table.parts) + 2)}ll"
    below = [r"\smallskip\footnotesize\raggedright", *notes]
    return latex_table(table.name, table.caption, columns, [heads, r"\midrule"], body, below)


def to_csv(table: ParametersTable) -> str:
    """One line per model; counts with all digits, the published number as it is printed."""
    described = ("total", "published", "unit", "equal", "trust", "explanation")
    lines = [("method", "backbone", "settings", *table.parts, *described)]
    for row in table.rows:
        counts = [row.parts.get(part, "") for part in table.parts]
        printed = row.published
        number, unit, trust = "", "", ""
        if printed is not None:
            number, unit, trust = printed.text, printed.unit, "trusted" if printed.trusted else "doubtful"
        made = (row.method, row.backbone, row.settings, *counts, row.total)
        lines.append((*made, number, unit, _equal(row), trust, row.explanation))
    return csv_text(lines)


def to_text(table: ParametersTable) -> str:
    """A plain table for the terminal, with the notes below."""
    notes = [f"{note}: {row.explanation}" for row, note in _noted(table) if note]
    return "\n".join([align([_heads(table)], _body(table)), "", *notes]).rstrip()


def _heads(table: ParametersTable) -> list[str]:
    return ["method", "backbone", "settings", *table.parts, "total", "published", "equal", "note"]


def _body(table: ParametersTable) -> list[list[str]]:
    return [
        [
            row.method,
            row.backbone,
            row.settings,
            *(_number(row.parts.get(part)) for part in table.parts),
            _number(row.total),
            _published(row),
            _equal(row),
            note,
        ]
        for row, note in _noted(table)
    ]


def _noted(table: ParametersTable) -> list[tuple[Count, str]]:
    """Rows with the letters of their notes, empty where there is nothing to explain."""
    letters = iter(string.ascii_lowercase)
    return [(row, next(letters) if row.explanation else "") for row in table.rows]


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _published(row: Count) -> str:
    if row.published is None:
        return "–"
    return f"{row.published.text} {_ABBREVIATIONS[row.published.unit]}{'' if row.published.trusted else ' ?'}"


def _equal(row: Count) -> str:
    return "" if row.published is None else ", ".join(row.equal) or "none"
