"""The report in a real browser: it opens without errors, sorts, filters, fits a phone, and runs no foreign script."""

import json
import re
from urllib.parse import unquote

import pytest

from nfbench.metrics import find_metric
from nfbench.report.data import printed
from nfbench.report.page import render_page
from nfbench.results.record import read_record
from nfbench.tables._explain import commands_of
from tests.made_up import MadeUp
from tests.report.reading import (
    ATTACK,
    BREAKOUT,
    IMAGE_ATTACK,
    choose,
    click_heading,
    embedded,
    report_of,
    rows,
    text_of,
)

pytestmark = pytest.mark.slow


def test_it_opens_without_errors_and_asks_for_nothing(opened):
    assert opened.errors == []
    assert opened.run("document.title").startswith("Made up, not measured")
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg).*", opened.run("document.documentElement.outerHTML")) == []


def test_the_leaderboard_is_sorted_and_sorts(opened):
    values = [float(row[2].split()[0]) for row in rows(opened, "leaderboard")]
    assert len(values) == 10
    assert values == sorted(values, reverse=True)
    click_heading(opened, "leaderboard", "image AUROC")
    values = [float(row[2].split()[0]) for row in rows(opened, "leaderboard")]
    assert values == sorted(values)
    click_heading(opened, "leaderboard", "method")
    names = [row[0] for row in rows(opened, "leaderboard")]
    assert names == sorted(names, key=str.lower)
    assert opened.run("document.querySelector('#leaderboard th[aria-sort]').innerText").startswith("method")


def test_means_are_those_of_the_records(opened, page):
    choose(opened, "backbone", "resnet18.tv_in1k@256")
    shown = next(row for row in rows(opened, "leaderboard") if row[0] == "U-Flow")
    root = page.parents[1]
    records = [json.loads(path.read_text()) for path in root.glob("runs/*/*/*/uflow/resnet18*/seed*/run.json")]
    for column, metric in ((2, "image_auroc"), (3, "pixel_auroc")):
        by_seed = [
            100 * sum(r["selections"]["last"]["metrics"][metric] for r in records if r["cell"]["seed"] == seed) / 8
            for seed in (0, 1)
        ]
        assert shown[column].startswith(f"{sum(by_seed) / 2:.2f} ± {abs(by_seed[0] - by_seed[1]) / 2**0.5:.2f}")


@pytest.mark.parametrize(("value", "shown"), [(0.9765469946, "97.65"), (0.9525535337, "95.26")])
def test_a_number_is_that_of_the_tables(value, shown):
    """Rounding first to three digits and then to two would change these values."""
    assert f"{printed(value, find_metric('pixel_auroc')):.2f}" == shown


def test_filters_change_what_is_shown(opened):
    everything = rows(opened, "leaderboard")
    choose(opened, "backbone", "wide_resnet50_2.tv_in1k@256")
    assert len(rows(opened, "leaderboard")) == 5
    assert "CD" in opened.run("document.querySelector('#tests svg').textContent")
    assert len(opened.run("[...document.querySelectorAll('#heatmap thead th')].map(h => h.innerText)")) == 6
    choose(opened, "selection", "oracle")
    oracle = rows(opened, "leaderboard")
    choose(opened, "selection", "last")
    last = {row[0]: float(row[2].split()[0]) for row in rows(opened, "leaderboard")}
    assert all(float(row[2].split()[0]) >= last[row[0]] for row in oracle)
    choose(opened, "metric", "miou_nfa")
    assert "a contrario" in opened.run("document.querySelector('#leaderboard thead').innerText")
    choose(opened, "backbone", "")
    choose(opened, "metric", "image_auroc")
    assert rows(opened, "leaderboard") == everything


def test_holes_are_named(opened):
    text = opened.run("document.getElementById('holes').innerText")
    assert "3 of 160 runs are not done and are marked †" in text
    assert "bottle/fastflow/resnet18.tv_in1k@256/seed0 (missing: not run yet)" in text
    ledger = opened.run("document.getElementById('ledger').innerText")
    assert "160 runs expected: 157 done, 1 missing, 2 failed." in ledger
    assert "'settings': Input should be a valid dictionary" in ledger
    choose(opened, "backbone", "resnet18.tv_in1k@256")
    marked = [row[0] for row in rows(opened, "leaderboard") if "†" in row[2]]
    assert marked == ["fastflow"]
    assert "†" in opened.run("document.querySelector('#heatmap tbody').innerText")


def test_a_cell_shows_its_runs(opened):
    choose(opened, "backbone", "resnet18.tv_in1k@256")
    opened.run("document.querySelector('#heatmap td button').click()")
    text = opened.run("document.getElementById('runs').innerText")
    assert "Record runs/one-class/mvtec_ad/bottle/uflow/resnet18.tv_in1k@256/seed0/run.json" in text
    assert "/runs/one-class/mvtec_ad/bottle/uflow/resnet18.tv_in1k@256/seed1" in text
    for part in ("nfbench train_flow --spec '{", '"category":"bottle"', '"seed":1'):
        assert part in text
    assert "c" * 40 in text
    assert re.search(r"95 % interval over test images [\d.]+ – [\d.]+", text)


def test_the_summary_says_who_leads_and_whether_it_is_significant(opened):
    choose(opened, "backbone", "wide_resnet50_2.tv_in1k@256")
    text, first = text_of(opened, "summary"), rows(opened, "leaderboard")[0]
    assert "This page compares 5 methods" in text
    assert "8 categories of mvtec_ad, 2 seeds; 79 runs done." in text
    assert f"{first[0]} has the highest mean image AUROC, {first[2]} (selection last), ahead of fastflow by" in text
    assert "U-Flow differs significantly from" in text or "not significant" in text
    significant = {row[0] for row in rows(opened, "leaderboard") if row[6] != "–" and float(row[6]) < 0.05}
    sentence = next(line for line in text.split("\n") if "Wilcoxon" in line).partition(" over ")[0]
    assert {row[0] for row in rows(opened, "leaderboard")[1:] if row[0] in sentence} == significant
    choose(opened, "selection", "oracle")
    assert "selected on the test set (oracle)" in text_of(opened, "summary")
    choose(opened, "backbone", "resnet18.tv_in1k@256")
    choose(opened, "selection", "last")
    assert "not comparable yet: they cover between 7 and 8 categories" in text_of(opened, "summary")


def test_links_lead_to_files_of_runs_and_tables(opened, page):
    choose(opened, "backbone", "resnet18.tv_in1k@256")
    opened.run("document.querySelector('#heatmap td button').click()")
    links = opened.run("[...document.querySelectorAll('#runs a')].map(a => a.getAttribute('href'))")
    assert len(links) == 4
    assert all((page.parent / unquote(link)).is_file() for link in links)
    files = opened.run("[...document.querySelectorAll('#provenance li a')].map(a => a.getAttribute('href'))")
    assert "../experiments/made_up/ledger.csv" in files
    assert "../tables/made_up/made_up_image_auroc.html" in files


def test_published_values_are_compared_and_doubts_are_marked(opened):
    found = rows(opened, "published")
    assert any("U-Flow" in row[1] and row[7] in ("reproduced", "close", "off") for row in found)
    click_heading(opened, "published", "difference")
    differences = [float(row[6]) for row in rows(opened, "published") if row[6] != "–"]
    assert differences == sorted(differences, reverse=True)


def test_hostile_names_are_shown_and_never_run(opened):
    assert ATTACK in [row[0].partition("\n")[0] for row in rows(opened, "leaderboard")]
    text = opened.run("document.getElementById('ledger').textContent")
    assert BREAKOUT in text
    assert IMAGE_ATTACK in text
    assert opened.run("document.title") == "Made up, not measured: nfbench report"
    assert opened.run("document.querySelectorAll('script').length") == 2
    assert opened.run("document.querySelectorAll('img[onerror]').length") == 0


def test_the_page_refuses_scripts_that_are_not_its_own(opened):
    opened.run("(() => { const s = document.createElement('script'); s.textContent = \"document.title = 'run'\";"
               " document.body.append(s); })()")  # fmt: skip
    assert opened.run("document.title") == "Made up, not measured: nfbench report"


def test_the_title_is_escaped_without_a_browser():
    data = {"title": ATTACK, "name": BREAKOUT, "version": IMAGE_ATTACK}
    page = render_page(data)
    assert page.count("<script") == 2
    assert IMAGE_ATTACK not in page
    assert embedded(page) == data


def filled(text, values):
    """A text as the page shows it."""
    return re.sub(r"\{(cell|place|category|seed)\}", lambda found: str(values[found[1]]), text)


def test_commands_of_all_runs_of_a_system_are_one_text_and_are_those_of_each_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = MadeUp(tmp_path, {"uflow": "uflow", "padim": "padim"}, ("bottle", "cable", "grid"), seeds=2).write()
    data = embedded(report_of(made).read_text())
    systems, seen = [found["method"] for found in data["systems"]], {}
    for run in data["runs"]:
        dataset, category = data["categories"][run["category"]]
        method = systems[run["system"]]
        (cell,) = [c for c in made.cells if (c.method, c.category, c.seed) == (method, category, run["seed"])]
        values = {"cell": cell, "place": f"{dataset}/{category}", "category": category, "seed": run["seed"]}
        texts = [data["texts"][number] for number in run["commands"]]
        commands = commands_of(read_record(made.paths.run_record(cell)))
        expected = [re.sub(',"origin":"[0-9a-f]*"', "", command) for command in commands]
        assert [filled(text, values) for text in texts] == expected
        assert data["texts"][run["thresholds"]] == "10 images, held out"
        if category == "bottle":
            seen.setdefault(method, set()).add(tuple(texts))
    assert [len(found) for found in seen.values()] == [1, 1]


def test_an_experiment_without_any_run_has_a_report_of_its_ledger(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = MadeUp(tmp_path, {"uflow": "uflow"}, ("bottle",)).write()
    for cell in made.cells:
        made.paths.run_record(cell).unlink()
    browser.open(report_of(made))
    assert browser.errors == []
    assert "2 of 2 runs are not done" in browser.run("document.getElementById('holes').innerText")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A report of a method that was searched on the test set over two backbones, and of one that was not."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        backbones = ("resnet18.tv_in1k", "wide_resnet50_2.tv_in1k")
        searches = {"tuned": {"backbones": list(backbones), "objective": "test"}}
        methods = {"tuned": "fastflow", "uflow": "uflow"}
        made = MadeUp(folder, methods, ("bottle", "cable", "carpet"), backbones, searches=searches)
        return report_of(made.write())


def test_a_search_on_the_test_set_is_said_in_capitals(browser, searched):
    browser.open(searched)
    assert browser.errors == []
    text = browser.run("document.getElementById('leaderboard').innerText")
    said = "tuned searched per category with 30 trials, judged by pixel AUROC ON THE TEST SET ITSELF (optimistic)"
    assert text.count(said) == 1
    assert "tuned on resnet18.tv_in1k@256 in 2 of 3 categories" in text
    assert "tuned on wide_resnet50_2.tv_in1k@256 in 1 of 3 categories" in text
    marked = {row[0] for row in rows(browser, "leaderboard") if "‡" in row[0]}
    assert marked == {"tuned ‡\nresnet18.tv_in1k@256", "tuned ‡\nwide_resnet50_2.tv_in1k@256"}
    assert said in browser.run("document.querySelector('#leaderboard p.warning').innerText")


def test_a_search_is_marked_in_tests_and_beside_published_values(browser, searched):
    browser.open(searched)
    choose(browser, "backbone", "resnet18.tv_in1k@256")
    assert set(rows(browser, "tests")[0][:2]) == {"tuned ‡", "uflow"}
    by_method = {row[1]: row[4] for row in rows(browser, "published")}
    assert by_method["tuned"].endswith("‡")
    assert not by_method["uflow"].endswith("‡")
    assert "ON THE TEST SET ITSELF" in browser.run("document.getElementById('published').innerText")


def test_without_a_search_nothing_is_said_of_one(opened):
    assert "‡" not in opened.run("document.body.innerText")
    assert "earched" not in opened.run("document.getElementById('leaderboard').innerText")


def test_files_of_the_page_are_part_of_the_package(repository):
    packaged = (repository / "pyproject.toml").read_text()
    parts = [path for path in (repository / "nfbench" / "report").iterdir() if path.suffix not in (".py", "")]
    assert {path.suffix for path in parts} == {".html", ".css", ".js"}
    for path in parts:
        assert f"*{path.suffix}" in packaged
        assert len(path.read_text().splitlines()) <= 400


def test_without_any_defined_value_all_sections_stand_and_say_why(browser, page, tmp_path):
    data = embedded(page.read_text())
    data["runs"] = [{**run, "values": [[None] * len(row) for row in run["values"]]} for run in data["runs"]]
    data |= {"lacking": "own/alone (no test images)", "intervals": [], "tests": [], "gallery": []}
    (tmp_path / "page.html").write_text(render_page(data))
    browser.open(tmp_path / "page.html")
    assert browser.run("document.querySelector('#selection').value") == "last"
    assert "own/alone (no test images)" in browser.run("document.querySelector('#leaderboard').innerText")
    assert browser.run("document.querySelectorAll('#heatmap td button').length") > 0
    assert not browser.errors
