"""No text of the project has phrases that native readers stumble over."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHRASES = ("anew", "as often", "so many", "had by", "came of", "comes of", "for want of", "whatever")
AVOIDED = re.compile(rf"\b({'|'.join(PHRASES)})\b", re.IGNORECASE)
LEFT_OUT = {"tests/test_language.py"}


def texts() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone, so it is not known which files are the project's")
    endings = (".py", ".md", ".yaml", ".yml", ".smk", ".toml", ".json", ".js", ".html", ".css", ".rst", "Makefile")
    names = [name for name in listed.stdout.splitlines() if name.endswith(endings)]
    return [name for name in names if not name.startswith("nfbench/reference/") and name not in LEFT_OUT]


def found_in(text: str) -> list[str]:
    return [f"line {text.count(chr(10), 0, match.start()) + 1}: '{match[0]}'" for match in AVOIDED.finditer(text)]


def test_no_text_has_an_avoided_phrase():
    found = {name: found_in((ROOT / name).read_text(encoding="utf-8")) for name in texts()}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_avoided_phrases_are_found():
    assert found_in("It runs\nas often as Whatever, newly.") == ["line 2: 'as often'", "line 2: 'Whatever'"]
