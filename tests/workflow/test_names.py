"""Names in shells and paths: quoting in rules, accepted targets, and error messages."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nfbench.config import NAME_PATTERN
from tests.in_process import run_snakemake
from tests.workflow.conftest import ROOT, Checkout

pytestmark = pytest.mark.workflow

RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))
SHELL = re.compile(r"""shell(?::|\()((?:\s*(?:f?"[^"\n]*"|f?'[^'\n]*'))+)""")
PLACEHOLDER = re.compile(r"(?<!\{)\{([^{}]*)\}")
NUMBERS = {"threads"}
"""Placeholders that Snakemake makes of numbers."""
HOSTILE = [
    "x;touch f;", "x`touch f`", "x|touch f", "x>f", 'x"; touch f; "', "x\ntouch f", "x\ttouch f", "x\\f", "a/b", "{x}",
    "<b>", "*", "?", "[a]", "a,b", "a:b", "a^b", "~", "",
]  # fmt: skip
RUN = "tf_efficientnet_lite0@64-random/seed0"
TARGETS = [
    "results/features/tf_efficientnet_lite0@64-random/synthetic-smoke/fabric/pseudo-x;touch f;/meta.json",
    "results/features/tf_efficientnet_lite0@64-random/synthetic-smoke/fabric/pseudo-$(touch f)/meta.json",
    "results/manifests/synthetic/x$(touch f).csv",
    "results/manifests/synthetic/-x.csv",
    f"results/runs/one-class/synthetic-smoke/x&&touch f/fastflow-smoke/{RUN}/run.json",
    "results/tables/smoke/x;touch f;.csv",
]


def shell_commands():
    """Text of all commands of all rules, with the file that they are in."""
    return [(path.name, found[1]) for path in RULES for found in SHELL.finditer(path.read_text())]


def test_every_rule_with_a_command_is_found():
    text = "".join(path.read_text() for path in RULES)
    assert len(shell_commands()) == len(re.findall(r"\bshell(?::\n|\()", text)) > 14
    assert not re.search(r"^\s+(run|script|notebook|wrapper|cwl):", text, re.MULTILINE)


@pytest.mark.parametrize(("file", "command"), shell_commands())
def test_everything_that_enters_a_command_is_quoted(file, command):
    parts = PLACEHOLDER.findall(command)
    assert parts, f"{file}: {command}"
    assert [part for part in parts if not part.endswith(":q") and part not in NUMBERS] == []


def test_wildcards_are_those_of_the_paths_and_each_has_a_closed_alphabet():
    text = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    block = text[text.index("wildcard_constraints:") :].split("\n\n")[0]
    constraints = dict(re.findall(r"^    (\w+)=(.*),$", block, re.MULTILINE))
    from nfbench.plan.paths import WILDCARDS

    used = {name for pattern in WILDCARDS.values() for name in re.findall(r"\{(\w+)\}", pattern)}
    assert used | {"named", "ending"} == constraints.keys()
    assert all(
        re.match(r'any_of\(|NAME_PATTERN|condition_pattern\(\)|"[\w|\-\[\]*]+"', rule) for rule in constraints.values()
    ), constraints


@pytest.mark.parametrize("name", HOSTILE)
def test_no_category_has_the_syntax_of_a_shell_or_a_path(name):
    assert not re.fullmatch(NAME_PATTERN, name)


@pytest.mark.parametrize("name", ["bottle", "01", "5$_$", "Größe", "螺丝", "a b", "o'ring", "cafe\u0301"])
def test_a_category_may_have_what_can_be_quoted(name):
    assert re.fullmatch(NAME_PATTERN, name)


@pytest.fixture(scope="module")
def checkout(new_checkout):
    return new_checkout()


@pytest.mark.parametrize("target", TARGETS)
def test_a_hostile_target_makes_nothing(checkout, target):
    printed = run_snakemake(checkout.folder, "--cores", "1", target, fails=True)
    assert "No rule to produce" in printed or "has no category" in printed or "no category 'x" in printed or (
        "a name must begin with a letter" in printed
    )  # fmt: skip
    assert not (checkout.folder / "f").exists()
    assert not (checkout.folder / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smoke", "--config", "categories=fabrik"], "no category 'fabrik'; did you mean 'fabric'?"),
        (["--config", "sees=3"], "config.yaml: unknown key 'sees'; did you mean 'seeds'?"),
        (["--config", "experiment=quikstart"], "unknown experiment 'quikstart'; did you mean 'quickstart'?"),
        (["quikstart"], "unknown experiment 'quikstart'; did you mean 'quickstart'?"),
        (["results/manifests/synthetic/fabrik.csv"], "no category 'fabrik'; did you mean 'fabric'?"),
    ],
)
def test_an_error_is_one_line_without_rule_and_trace(checkout, arguments, message):
    printed = run_snakemake(checkout.folder, "--cores", "1", "--dry-run", *arguments, fails=True)
    (line,) = [line for line in printed.splitlines() if message in line]
    assert line.startswith("Error: ")
    assert not re.search(r"Traceback|File \"|Exception|Wildcards:|in rule|common\.smk", printed)


def test_a_checkout_in_a_folder_with_braces_is_named(tmp_path):
    folder = tmp_path / "a{b}"
    folder.mkdir()
    printed = run_snakemake(Checkout(folder).folder, "--cores", "1", "--dry-run", fails=True)
    (line,) = [line for line in printed.splitlines() if line.startswith("Error: ")]
    assert str(folder) in line
    assert "Traceback" not in printed


def test_home_folders_are_expanded_where_snakemake_looks_for_files(checkout, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    printed = run_snakemake(
        checkout.folder, "--cores", "1", "--dry-run", "uflow_table4", "--config", "results_root=~/results"
    )
    assert f"{tmp_path}/results/tables/uflow_table4/" in printed
    assert not (checkout.folder / "~").exists()


def test_jobs_of_a_cluster_have_no_name_that_its_commands_do_not_quote():
    text = (ROOT / "workflow" / "rules" / "checks.smk").read_text()
    refused: list[str] = []

    def check(**wildcards):
        job = SimpleNamespace(wildcards=wildcards)
        workflow = SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda: [job]))
        scope = {"workflow": workflow, "refuse": refused.append}
        exec(text[text.index("def check_names_for_a_cluster") :], scope)
        scope["check_names_for_a_cluster"]()

    check(category="metal_nut", dataset="own")
    assert refused == []
    check(dataset="own", category="5$(touch f)'%")
    assert refused == ["category '5$(touch f)'%': jobs of a cluster cannot have $ % ' in a name; rename it"]


def test_a_check_before_the_first_job_ends_with_the_command_s_own_line(new_checkout):
    checkout = new_checkout()
    path = checkout.folder / "workflow" / "experiments" / "smoke.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epoch: 2"))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "smoke"]
    done = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 1
    assert "setting 'epoch' of method 'fastflow'" in printed.splitlines()[-1]
    assert "CalledProcessError" not in printed
    assert not list((checkout.folder / ".snakemake" / "locks").glob("*"))
