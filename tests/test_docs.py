"""The documents: every command of the README is run, and the worked examples of docs/contributing.md work."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from nfbench.blocks.method import resolve_settings
from nfbench.config import VariantConfig
from nfbench.core.registry import plugin_names
from nfbench.datasets._base import find_dataset
from nfbench.metrics import metric_list
from tests.browser import Browser
from tests.conftest import ROOT, make_image_folder
from tests.in_process import run_nfbench, run_snakemake
from tests.workflow.conftest import PARTS, Checkout, environment

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
PAGES = ["methods.md", *(f"methods/{path.name}" for path in sorted((ROOT / "docs" / "methods").glob("*.md")))]
PAGES += ["datasets.md", "reproduce.md", "experiments.md", "backbones.md", "configuration.md"]
DOCUMENTED = "".join((ROOT / "docs" / page).read_text() for page in PAGES)
CLUSTER = (ROOT / "docs" / "cluster.md").read_text()
CONTRIBUTING = (ROOT / "docs" / "contributing.md").read_text()

# what a test cannot do: install from the network, or submit to a cluster; and what CI itself does
NOT_RUN = {
    ". .venv/bin/activate",
    "pip install snakemake-executor-plugin-slurm",
}
# what CI runs in two stages, so that no test runs twice; tests/test_ci.py checks that the parts are the whole
IN_PARTS = {"make test": ["make test-fast", "make test-rest"]}
# what needs a cluster
ON_A_CLUSTER = {
    "sinfo --summarize",
    "kubectl apply -f profiles/kubernetes/job.yaml",
    "kubectl wait --for=condition=complete --timeout=24h job/nfbench",
}
# what needs a container engine; tests/test_container.py compares these commands with the Dockerfile
OF_CONTAINERS = ("docker ", "apptainer ")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.S | re.M)


METHOD = blocks(README, "python")[1]


def commands(text: str) -> list[str]:
    return [line for block in blocks(text, "sh") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout with small folders of images where the README has /data, and the README's own experiment."""
    checkout = Checkout(tmp_path_factory.mktemp("readme"))
    make_image_folder(checkout.folder / "data" / "mvtec_ad", "bottle")
    make_image_folder(checkout.folder / "data" / "my_parts", "gear")
    find_dataset("btad").miniature(checkout.folder / "data" / "btad")
    config, experiment = blocks(README, "yaml")
    path = checkout.folder / "config.yaml"
    datasets = config.splitlines()[2].replace("/data", str(checkout.folder / "data"))
    path.write_text(path.read_text().replace("datasets: {}", f"datasets:\n{datasets}"))
    (checkout.folder / "workflow" / "experiments" / "my_parts.yaml").write_text(experiment)
    return checkout


@pytest.mark.parametrize(
    "command",
    [
        line
        for line in dict.fromkeys(commands(README) + commands(DOCUMENTED) + commands(CLUSTER))
        if line not in NOT_RUN | ON_A_CLUSTER and not line.startswith(OF_CONTAINERS)
    ],
)
def test_commands_of_the_documents(checkout, command, monkeypatch):
    if command.startswith("make"):
        stages = (ROOT / ".ci" / "run").read_text()
        assert all(re.search(rf"^stage \w+ {part}$", stages, re.M) for part in IN_PARTS.get(command, [command]))
        return
    line = command.replace("/data", str(checkout.folder / "data"))
    if line == "nfbench show mvtec_local" or line.startswith("nfbench explain"):
        pytest.skip("needs finished runs; 'make run' calls 'nfbench show', and test_run explains a cell")
    program, *arguments = line.split()
    if program == "snakemake":
        assert "This was a dry-run" in run_snakemake(checkout.folder, "--dry-run", *arguments)
    else:
        assert program == "nfbench"
        assert run_nfbench(checkout.folder, *arguments)


def test_variants_that_learn_from_anomalies():
    written = [yaml.safe_load(block) for block in blocks((ROOT / "docs" / "experiments.md").read_text(), "yaml")]
    (found,) = (read["variants"] for read in written if "bgad-parts" in read.get("variants", ()))
    assert {VariantConfig(**values).anomalies.generator for values in found.values()} == {"blend", "rpag"}
    for values in found.values():
        resolve_settings(values["method"], overrides=values["settings"])


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_python_of_the_documents_scores_images(document, tmp_path, monkeypatch, capsys):
    make_image_folder(tmp_path / "own", "part")
    (tmp_path / "parts").mkdir()
    shutil.move(tmp_path / "own/part/train/good", tmp_path / "parts/good")
    shutil.move(tmp_path / "own/part/test/good", tmp_path / "parts/new")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(blocks((ROOT / document).read_text(), "python")[0], found)
    assert found["scores"].images.shape == (found["scores"].maps.shape[0],)
    assert capsys.readouterr().out


def test_python_of_the_documents_measures_maps(capsys):
    block = blocks((ROOT / "docs" / "python.md").read_text(), "python")[1]
    exec(block, {})
    first, legacy, found = capsys.readouterr().out.splitlines()
    assert first.startswith("1.0 ")
    assert float(legacy) > 0.9
    assert found == "False"


def test_results_of_the_readme_are_those_of_the_methods_page():
    measured = (ROOT / "docs" / "methods.md").read_text()
    rows = [line.split(" | ") for line in README.splitlines() if re.match(r"\| .* ± .* s \|", line)]
    assert len(rows) > 7
    for name, image, pixel, aupro, training, memory in rows:
        head = re.escape(name.partition(",")[0])
        row = rf"^{head}\b.*\| {image} \| {pixel} \| {aupro} \|.* {training} \| .* \| {memory}$"
        assert re.search(row, measured, re.M), name


def test_every_command_of_the_readme_is_known():
    assert set(commands(README)) >= NOT_RUN


def test_lines_of_the_profile_are_explained():
    """Each key that a user may change, and the time that rules ask for."""
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "profile.yaml").read_text())
    assert {key for key in profile if f"`{key}" not in CLUSTER} == {
        "executor", "scheduler", "show-failed-logs", "rerun-triggers"
    }  # fmt: skip
    for rule, path in (
        ("train_flow", "runs"),
        ("score_run", "runs"),
        ("evaluate_run", "runs"),
        ("extract_features", "features"),
    ):
        asked = (ROOT / "workflow" / "rules" / f"{path}.smk").read_text()
        of_rule = asked[asked.index(f"rule {rule}:") :]
        minutes = re.search(r"time_limit\((\d+)\)", of_rule)[1]
        assert re.search(rf"\| `{rule}`.* \| .* \| {minutes}, ", CLUSTER), rule


def test_links_and_pictures_exist():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert target.startswith("http") or (document.parent / target).exists(), f"{document.name}: {target}"


def test_all_metrics_are_listed():
    assert metric_list() in (ROOT / "docs" / "metrics.md").read_text(), "print it by 'nfbench list metrics'"


def test_kinds_that_the_documents_name_are_there():
    text = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    named = re.findall(r"(table|figure) of (?:the )?kind `(\w+)`", text)
    assert len(named) > 3
    assert all(kind in plugin_names(f"nfbench.{what}s") for what, kind in named), named


def test_the_project_speaks_of_itself_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in tracked:
        path = ROOT / name
        if (
            path.suffix in {".py", ".md", ".yaml", ".smk", ".toml", ""}
            and path.is_file()
            and name != "tests/test_docs.py"
        ):
            assert str(ROOT) not in path.read_text(errors="ignore"), name


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as pages."""
    mkdocs = pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", mkdocs.__name__, "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page(site):
    pages = {path.stem for path in site.glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= pages
    for page in site.glob("*.html"):
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert loaded == [], page.name


def test_pages_open_without_network_and_link_the_report(site, tmp_path):
    browser = Browser(tmp_path / "profile")
    for name in ("index", "report", "errata"):
        browser.open(site / f"{name}.html", width=390)
        asked = [error for error in browser.errors if "http" in error]
        assert asked == []
        assert "nfbench" in browser.run("document.title")
        links = browser.run("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
        assert name == "errata" or "reports/quickstart.html" in links
        assert "errata.html" in links or name == "errata"
    browser.close()


@pytest.mark.parametrize("width", [390, 1280, 1900])
def test_pages_fit_the_window(site, tmp_path, width):
    browser = Browser(tmp_path / "profile")
    for name in ("index", "methods", "methods/fastflow", "metrics", "api/methods", "decisions/index"):
        browser.open(site / f"{name}.html", width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width, name
        broken = browser.run("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
        assert broken == [], name
    browser.close()


def test_search_works_from_a_folder(site, tmp_path):
    browser = Browser(tmp_path / "profile")
    browser.open(f"{(site / 'search.html').as_uri()}?q=homogeneous+mapping")
    found = "[...document.querySelectorAll('#mkdocs-search-results a')].map(a => a.getAttribute('href'))"
    assert "experiments.html#homogeneous_mapping" in browser.run(found)
    assert [error for error in browser.errors if not error.startswith("asked for file:")] == []
    type_in = "i => {{ i.value = '{}'; i.dispatchEvent(new Event('input')) }}"
    box = "document.getElementById('mkdocs-search-query')"
    browser.run(f"({type_in.format('resolve_set')})({box})")
    assert any(link.startswith("api/methods.html") for link in browser.run(found))
    browser.run(f"({type_in.format('xylophone')})({box})")
    assert browser.run("document.getElementById('mkdocs-search-results').textContent") == "No results found"
    browser.close()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A checkout with the package in it and the worked examples added, each under the path in its first line."""
    folder = tmp_path_factory.mktemp("example")
    for part in [*PARTS, "nfbench", "tests"]:
        source = ROOT / part
        subprocess.run(["cp", "-r", str(source), str(folder / part)], check=True)
    for block in blocks(CONTRIBUTING, "python") + blocks(CONTRIBUTING, "yaml") + [METHOD]:
        (folder / block.splitlines()[0].removeprefix("# ")).write_text(block)
    make_ok_ko(folder / "parts" / "gear")
    return folder


def make_ok_ko(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, count in (("train/ok", 8), ("test/ok", 3), ("test/ko", 3)):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(folder / kind / f"{number}.png")
    (folder / "ground_truth" / "ko").mkdir(parents=True)
    for number in range(3):
        mask = np.zeros((40, 40), dtype=np.uint8)
        mask[4:12, 6 : 14 + number] = 255
        Image.fromarray(mask).save(folder / "ground_truth" / "ko" / f"{number}.png")


IN_ONE_PROCESS = """
import sys
from pathlib import Path
from tests.in_process import run_nfbench, run_snakemake

for line in sys.argv[1:]:
    program, *arguments = line.split()
    {"nfbench": run_nfbench, "snakemake": run_snakemake}[program](Path(), *arguments)
"""


def run_in(folder: Path, *arguments: str) -> str:
    variables = {**environment(), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_worked_examples_run(example):
    (example / "run_all.py").write_text(IN_ONE_PROCESS)
    run_in(example, "run_all", *commands(CONTRIBUTING))
    table = (example / "results" / "tables" / "example" / "example_pixel_auroc.csv").read_text()
    assert "diagonal-short" in table
    assert "mobilenetv3_large_100.ra_in1k@64-l23-random" in table
    table = (example / "results" / "tables" / "example" / "example_recall.html").read_text()
    assert "Worked examples: anomalous images above all normal ones in percent, mean" in table
    made = example / "results" / "tables" / "example" / "example_extremes"
    assert r"\footnotesize last" in made.with_suffix(".tex").read_text()
    assert "worst category" in made.with_suffix(".html").read_text()
    assert Image.open(example / "results" / "figures" / "example" / "example_costs.png").size > (100, 100)
    assert "extremes: A table of methods" in run_in(example, "nfbench", "list", "tables")


@pytest.mark.slow
def test_worked_examples_keep_the_contracts(example):
    selected = "mean_distance or diagonal or Diagonal or mobilenet or ok_ko or image_recall or extremes or costs"
    printed = run_in(example, "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", "-k", selected)
    assert re.search(r"\b[1-9]\d+ passed", printed), printed


def test_worked_examples_are_formatted(example, tmp_path):
    ruff = Path(sys.executable).parent / "ruff"
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    paths = [str(example / block.splitlines()[0].removeprefix("# ")) for block in blocks(CONTRIBUTING, "python")]
    subprocess.run([ruff, "check", "--config", str(ROOT / "pyproject.toml"), *paths], check=True)
