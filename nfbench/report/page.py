"""The page: template, style sheet, script and data in one file."""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

import jinja2

__all__ = ["render_page"]

_PARTS = files(__name__.rpartition(".")[0])
_SCRIPTS = ("elements", "charts", "summary", "gallery", "sections")
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(data: dict[str, Any]) -> str:
    """Render the page as text.

    Names, paths and logs are untrusted. The template escapes them, the data cannot close its element, and the script
    inserts text only as text. The content security policy allows only the page's own script and loads nothing.

    Args:
        data: data from ``nfbench.report.data.collect``, with ``gallery``.
    """
    script = "\n".join(_PARTS.joinpath(f"{name}.js").read_text() for name in _SCRIPTS)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_PARTS.joinpath("report.html").read_text())
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, escaped in _UNSAFE.items():
        text = text.replace(character, escaped)
    return template.render(
        data=data,
        json=text,
        script=script,
        style=_PARTS.joinpath("report.css").read_text(),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
