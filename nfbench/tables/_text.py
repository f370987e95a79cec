"""What tables are written with: the frame and escapes of LaTeX, lines of CSV, and aligned text."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from nfbench.core.files import shield

__all__ = ["align", "csv_text", "escape_latex", "latex_line", "latex_table"]

_LATEX_ESCAPES = str.maketrans(
    {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
     "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}"}
)  # fmt: skip


_LIGATURE = re.compile("(?<=-)(?=-)|(?<=')(?=')|(?<=`)(?=`)|(?<=[!?])(?=`)")
"""Between characters that LaTeX would print as one, such as two hyphens as a dash."""

_NO_LABEL = re.compile(r"[^\w.:+@=-]")
"""Characters that a label cannot have."""


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
