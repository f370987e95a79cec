"""Helpers that read an opened report."""

import json
import re

from typer.testing import CliRunner

from nfbench.cli import app

ATTACK = "<script>document.title='run'</script>"
IMAGE_ATTACK = "<img src=x onerror=\"document.title='run'\">"
BREAKOUT = "</script><script>document.title='run'</script>"


def report_of(made):
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 0, done.exception
    return made.paths.report("made_up")


def embedded(page):
    """The data of a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])


def rows(browser, section):
    """Texts of the cells of the first table of a section."""
    return browser.run(
        f"[...document.querySelector('#{section} table').tBodies[0].rows].map(r => [...r.cells].map(c => c.innerText))"
    )


def text_of(browser, section):
    return browser.run(f"document.getElementById('{section}').innerText")


def choose(browser, identity, value):
    browser.run(
        f"(() => {{ const s = document.getElementById('{identity}'); s.value = {json.dumps(value)};"
        " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def click_heading(browser, section, title):
    buttons = f"[...document.querySelectorAll('#{section} th button')]"
    browser.run(f"{buttons}.find(b => b.textContent === {json.dumps(title)}).click()")
