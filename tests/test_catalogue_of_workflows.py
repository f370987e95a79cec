"""The repository has what the Snakemake Workflow Catalog asks of a standardized workflow."""

import re

import yaml

from nfbench.config.bench import Config
from tests.conftest import ROOT


def test_files_are_where_the_catalogue_looks():
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert 'include: "workflow/Snakefile"' in (ROOT / "Snakefile").read_text()
    assert list((ROOT / "workflow" / "rules").glob("*.smk"))


def test_usage_has_the_keys_of_the_catalogue():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    deployed = usage["software-stack-deployment"]
    assert set(deployed) == {"conda", "apptainer", "apptainer+conda"}
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert deployed["conda"] == ("\n    conda:" in rules)
    assert deployed["apptainer"] == ("\n    container:" in rules)


def test_keys_of_the_configuration_exist():
    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "config" / "README.md").read_text(), re.M)
    assert named
    assert set(named) <= set(Config.model_fields)
