"""The pages of the documentation: generated parts are up to date, and every method has a page."""

import re
import runpy

import pytest
import yaml

from nfbench import metrics
from nfbench.blocks.method import PACKAGE, Method, resolve_settings
from nfbench.config import VariantConfig
from nfbench.config.grid import GridBlock
from nfbench.core.registry import exported, plugin_names
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = runpy.run_path(str(DOCS / "tools" / "pages.py"))
SCHEMATICS = runpy.run_path(str(DOCS / "tools" / "schematics.py"))
METHODS = plugin_names("nfbench.methods")
HEADINGS = ["How it works", "Run it", "Settings", "Deviations", "Published values", "Measured values"]
PARTS = ["experiments", "settings", "published", "measured"]


def settings_of(method: str) -> set[str]:
    method_type: type[Method] = exported(PACKAGE, method, "METHOD", subclass_of=Method)
    return set(method_type.settings_type.model_fields)


def yaml_blocks() -> list[dict]:
    texts = [page.read_text() for page in DOCS.rglob("*.md") if page.name != "contributing.md"]
    found = [
        block for text in texts for block in re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    ]
    return [block for block in map(yaml.safe_load, found) if isinstance(block, dict)]


@pytest.mark.parametrize("page", PAGES["pages"](), ids=lambda page: str(page.relative_to(DOCS)))
def test_generated_parts_are_up_to_date(page):
    assert page.read_text() == PAGES["generated"](page), "run 'python docs/tools/pages.py'"


def test_a_stale_part_is_replaced_and_the_rest_stays(tmp_path):
    page = tmp_path / "methods" / "fastflow.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- generated: settings -->\n| `lr` | `1` |\n<!-- end -->\nafter\n")
    text = PAGES["generated"](page)
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| `lr` | `0.001` | learning rate of Adam | code |" in text
    assert "| `lr` | `1` |" not in text


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_a_page_with_all_parts(method):
    text = (DOCS / "methods" / f"{method}.md").read_text()
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == HEADINGS
    assert re.findall(r"<!-- generated: (\w+) -->", text) == PARTS
    assert f"images/schematics/{method}.svg" in text
    assert f"(methods/{method}.md)" in (DOCS / "methods.md").read_text()
    assert f"methods/{method}.md" in (ROOT / "mkdocs.yml").read_text()


def test_a_page_of_a_method_is_of_one_that_exists():
    assert {page.stem for page in (DOCS / "methods").glob("*.md")} == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_is_in_the_table_with_its_origin(method):
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", PAGES["settings"](method), flags=re.MULTILINE))
    assert rows.keys() == settings_of(method)
    assert all(origin in PAGES["ORIGINS"] or origin.startswith("unused by") for origin in rows.values())


@pytest.mark.parametrize("method", METHODS)
def test_facts_name_settings_of_the_method(method):
    facts = PAGES["FACTS"][method]
    listed = [name for origin in PAGES["ORIGINS"] for name in facts.get(origin, [])]
    assert set(listed) <= settings_of(method)
    assert len(listed) == len(set(listed))
    assert facts["origin"] in PAGES["ORIGINS"]


def test_published_values_are_those_of_the_reference():
    assert (
        "| MVTec AD | MS-CaiT | one-class | U-Flow: Table 1, Table 2, Table 3, Table 7 | 98.87 | 98.74 | 95.19 |"
        in (PAGES["published"]("uflow"))
    )
    assert "slide: Ablations, loss functions" in PAGES["published"]("sanflow")


def test_measured_rows_are_those_of_the_method_alone():
    assert "FastFlow" not in PAGES["measured"]("uflow")
    assert "PaDiM (anomalib)" not in PAGES["measured"]("padim")
    assert "PaDiM (anomalib)" in PAGES["measured"]("anomalib")


@pytest.mark.parametrize("path", SCHEMATICS["drawings"](), ids=lambda path: path.stem)
def test_schematics_are_up_to_date(path):
    assert path.read_text() == SCHEMATICS["drawings"]()[path], "run 'python docs/tools/schematics.py'"


def test_experiments_in_the_documents_are_valid():
    variants = {name: values for block in yaml_blocks() for name, values in block.get("variants", {}).items()}
    for values in variants.values():
        variant = VariantConfig(**values)
        resolve_settings(variant.method, overrides=variant.settings)
    blocks = [values for block in yaml_blocks() for values in block.get("grid", [])]
    assert len(blocks) > 5
    for values in blocks:
        GridBlock(**values)


def test_links_between_pages_exist():
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.relative_to(DOCS)}: {target}"


def test_a_decision_has_context_decision_and_cost():
    records = sorted((DOCS / "decisions").glob("0*.md"))
    index = (DOCS / "decisions" / "index.md").read_text()
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Cost"]
        assert f"({record.name})" in index
        assert f"# {int(record.name[:4])}. " in text.splitlines()[0]


def test_the_api_has_every_public_function_of_the_metrics():
    page = (DOCS / "api" / "metrics.md").read_text()
    documented = re.findall(r"^::: nfbench\.metrics\.(?:\w+\.)?(\w+)$", page, flags=re.MULTILINE)
    public = {name for names in metrics._FUNCTIONS.values() for name in names}
    assert public <= set(documented)
