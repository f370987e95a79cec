"""What all tables are written with: a page of HTML, the frame and escapes of LaTeX, lines of CSV, and aligned text."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import jinja2

from nfbench.core.files import shield

__all__ = ["PAGES", "align", "csv_text", "escape_latex", "latex_line", "latex_table"]

_LATEX_ESCAPES = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}"}
)  # fmt: skip


_LIGATURE = re.compile("(?<=-)(?=-)|(?<=')(?=')|(?<=`)(?=`)|(?<=[!?])(?=`)")
"""Between characters that LaTeX would print as one, such as two hyphens as a dash."""

_NO_LABEL = re.compile(r"[^\w.:+@=-]")
"""Characters that a label cannot have."""

_PAGE = """\
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
caption { caption-side: top; text-align: left; white-space: normal; margin-bottom: 1rem; }
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
{% block table %}{% endblock %}
</table>
</div>
{% block notes %}{% endblock %}
</body>
</html>
"""

PAGES = jinja2.Environment(
    autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=jinja2.DictLoader({"page": _PAGE})
)
"""Templates that extend ``page`` with a block ``table``; everything is escaped."""


def escape_latex(text: str) -> str:
    """Text in one line, and so that LaTeX prints it as it is."""
    line = " ".join(text.split()).translate(_LATEX_ESCAPES).replace("±", r"$\pm$").replace("†", r"$^\dagger$")
    return _LIGATURE.sub("{}", line)


def latex_line(cells: Iterable[str]) -> str:
    r"""A line of a LaTeX table; its cells are escaped already.

    A bracket or star at its beginning would be an argument of the ``\\`` or rule before it.
    """
    line = " & ".join(cells) + r" \\"
    return "{}" + line if line.lstrip().startswith(("[", "*")) else line


def latex_table(
    name: str, caption: str, columns: str, heads: Sequence[str], body: Sequence[str], below: Sequence[str] = ()
) -> str:
    r"""A ``table`` environment that needs ``booktabs`` and ``graphicx``; it shrinks to the width of the line.

    Args:
        name: of the table, its label.
        caption: not escaped yet.
        columns: of ``tabular``.
        heads: lines of the heading.
        body: lines of the rows, with the rules between them.
        below: lines below the table.
    """
    lines = [
        r"\begin{table}",
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
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV, the heading first; see ``nfbench.core.files.shield``."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(map(shield, row) for row in rows)
    return buffer.getvalue()


def align(heads: Sequence[Sequence[str]], body: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, with a line below the heads."""
    lines = [*heads, *body]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    printed = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines]
    printed.insert(len(heads), "-" * len(printed[0]))
    return "\n".join(line.rstrip() for line in printed)
