"""Names: allowed characters, reserved words, and names that Snakemake would read as numbers."""

import json
import re
from pathlib import Path

import pytest

from nfbench.config import Config, Experiment, check_category, load_bench, require_known, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.plan.plan import Plan

REFUSED = [
    "", "..", ".hidden", "../up", "a/b", "a\\b", "{braces}", "<tag>", "a\nb", "a\tb", "\x00", " lead", "trail ", "-x",
    "[b]", "*", "a|b", 'a"b', "a,b", "a:b", "x" * 101,
]  # fmt: skip
TAKEN = [
    "bottle",
    "metal_nut",
    "01",
    "5$_$",
    "Größe",
    "螺丝",
    "a b",
    "fastflow-0.5",
    "a+b",
    "x" * 100,
    "_a",
    "100%",
    "(a)"[1:],
]
BLOCK = {"methods": ["padim"], "backbones": ["tf_efficientnet_lite0"], "datasets": {"own": "available"}}


def experiment(**keys):
    return validate(Experiment, {"title": "x", "grid": [BLOCK], **keys}, "x.yaml")


@pytest.mark.parametrize(
    "place",
    [
        lambda name: experiment(datasets={name: {"root": "x"}}),
        lambda name: experiment(variants={name: {"method": "padim"}}),
        lambda name: experiment(tables={name: {"title": "x", "metric": "image_ap"}}),
        lambda name: experiment(figures={name: {"kind": "maps"}}),
        lambda name: experiment(grid=[{**BLOCK, "datasets": {"own": [name]}}]),
        lambda name: experiment(grid=[{**BLOCK, "datasets": {"own": {"available": [name]}}}]),
        lambda name: experiment(grid=[{**BLOCK, "datasets": {name: "available"}}]),
        lambda name: experiment(grid=[{**BLOCK, "methods": [name]}]),
        lambda name: experiment(datasets={"u": {"union": {"own": [name]}}}),
        lambda name: validate(Config, {"categories": [name]}, "x.yaml"),
        lambda name: validate(Config, {"datasets": {name: {"root": "x"}}}, "x.yaml"),
    ],
    ids=["dataset", "variant", "table", "figure", "category", "available", "grid", "method", "union", "config", "own"],
)
def test_names_are_of_a_closed_alphabet(place):
    for name in TAKEN:
        place(name)
    for name in REFUSED:
        with pytest.raises(NfbenchError, match=r"x\.yaml: '.*a name ") as error:
            place(name)
        assert "\n" not in str(error.value).replace(name, "")


@pytest.mark.parametrize(
    "name", [name for name in REFUSED if name and "/" not in name and "\x00" not in name and len(name) < 101]
)
def test_folders_of_categories_that_cannot_be_taken_are_named(name):
    with pytest.raises(NfbenchError, match=r"dataset 'own': category '.*a name .*; rename its folder"):
        check_category(name, "dataset 'own'")


def test_all_categories_of_all_readers_can_be_taken():
    for module in (plugin("nfbench.datasets", name) for name in plugin_names("nfbench.datasets")):
        for category in module.DATASET.categories:
            check_category(category, "x")


def test_a_category_is_not_called_as_the_mean_of_a_table():
    with pytest.raises(NfbenchError, match="'average': tables use this name for the mean"):
        check_category("average", "dataset 'own'")
    with pytest.raises(NfbenchError, match="a category cannot be called 'average'"):
        experiment(grid=[{**BLOCK, "datasets": {"own": ["part", "average"]}}])
    experiment(tables={"average": {"title": "x", "metric": "image_ap"}})


@pytest.mark.parametrize("value", [12, 1.0, True, None, 1e5])
@pytest.mark.parametrize("key", ["datasets", "variants"])
def test_a_name_that_lost_its_quotes_is_told_to_be_quoted(value, key):
    with pytest.raises(NfbenchError, match=rf"config.yaml: '{key}\..*not a name: put names .* in quotes"):
        validate(Config, {key: {value: {"root": "x"} if key == "datasets" else {"method": "padim"}}}, "config.yaml")


@pytest.mark.parametrize("value", [1, 12, 100000.0, True])
def test_one_category_that_snakemake_reads_as_a_number_is_told_to_be_quoted(value):
    with pytest.raises(NfbenchError, match=r"config.yaml: 'categories': was read as the .*; quote names"):
        validate(Config, {"categories": value}, "config.yaml")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("bottle,cable", ("bottle", "cable")),
        ("bottle, cable ", ("bottle", "cable")),
        ("01", ("01",)),
        ("01,02", ("01", "02")),
        (["01", "no"], ("01", "no")),
        (None, None),
    ],
)
def test_categories_are_a_list_or_text_with_commas(value, names):
    assert validate(Config, {"categories": value}, "x").categories == names


@pytest.mark.parametrize("value", ["bottle,,cable", "bottle,", ""])
def test_an_empty_category_is_named(value):
    with pytest.raises(NfbenchError, match="a name cannot be empty"):
        validate(Config, {"categories": value}, "x")


def test_the_nearest_known_name_is_given():
    require_known(["cable"], ["bottle", "cable"], "here")
    with pytest.raises(NfbenchError, match=r"^here: no category 'cabel'; did you mean 'cable'\?$"):
        require_known(["bottle", "cabel"], ["bottle", "cable"], "here")


@pytest.mark.parametrize("name", ["all", "extract", "-x", "a,b"])
def test_a_file_whose_name_is_no_name_of_an_experiment_is_named(tmp_path, name):
    folder = tmp_path / "workflow" / "experiments"
    folder.mkdir(parents=True)
    (tmp_path / "workflow" / "rules").mkdir()
    (tmp_path / "workflow" / "rules" / "x.smk").write_text("rule extract:\n    output: 'x'\n")
    (folder / f"{name}.yaml").write_text(
        "title: x\ngrid: [{methods: [padim], backbones: [alexnet], datasets: {elpv: [mono]}}]\n"
    )
    with pytest.raises(NfbenchError, match=f"{name}.yaml: an experiment cannot have this name"):
        load_bench({}, folder)


def test_an_experiment_has_the_name_of_its_file(tmp_path):
    (tmp_path / "e.yaml").write_text(
        "name: f\ntitle: x\ngrid: [{methods: [padim], backbones: [alexnet], datasets: {elpv: [mono]}}]\n"
    )
    with pytest.raises(NfbenchError, match=r"e.yaml: 'name' is 'f', but an experiment is named like its file"):
        load_bench({}, tmp_path)


@pytest.mark.parametrize("key", ["data_root", "results_root"])
def test_paths_expand_the_home_folder_and_have_no_braces(monkeypatch, key):
    monkeypatch.setenv("HOME", "/home/someone")
    assert getattr(validate(Config, {key: "~/x"}, "x"), key) == "/home/someone/x"
    assert getattr(validate(Config, {key: "x~/y"}, "x"), key) == "x~/y"
    for path, message in (
        ("run_{1}", "braces"),
        ("~nobody-here/x", "home folder"),
        ("", "cannot be empty"),
        ("a\nb", "control"),
    ):
        with pytest.raises(NfbenchError, match=f"config.yaml: '{key}': .*{message}"):
            validate(Config, {key: path}, "config.yaml")


def test_roots_of_datasets_and_weights_expand_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    backbone = {"name": "alexnet", "weights": "~/w.pth"}
    found = experiment(datasets={"own": {"root": "~/images"}}, grid=[{**BLOCK, "backbones": [backbone]}])
    assert Path(found.datasets["own"].root) == Path("/home/someone/images")
    assert found.grid[0].backbones[0].weights == "/home/someone/w.pth"


@pytest.mark.parametrize("name", ["螺" * 67, "ä" * 100 + "b", "a" * 101])
def test_a_name_fits_the_name_of_a_file(name):
    with pytest.raises(NfbenchError, match="a name has at most"):
        check_category(name, "dataset 'own'")
    check_category("螺" * 66, "dataset 'own'")


@pytest.mark.parametrize("title", ["", " ", "a\x00b", "bell\x07", "x" * 201, "\u202e"])
def test_a_title_is_one_line(title):
    with pytest.raises(NfbenchError, match=r"x\.yaml: 'variants\.v\.title': a title is one line of 1 to 200"):
        experiment(variants={"v": {"method": "padim", "title": title}})


@pytest.mark.parametrize(
    ("title", "kept"), [("folded\n", "folded"), (" a  b", "a b"), ("5$_$ {x} <b>", "5$_$ {x} <b>")]
)
def test_a_title_may_have_any_other_text(title, kept):
    assert experiment(variants={"v": {"method": "padim", "title": title}}).variants["v"].title == kept


def test_an_experiment_is_not_called_as_the_tracking_of_another(tmp_path):
    for name in ("own", "track_own", "track_other"):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"title": "x", "grid": [BLOCK]}))
    with pytest.raises(NfbenchError, match="'track_own' is a rule of the workflow") as error:
        load_bench({"datasets": {"own": {"root": "x"}}}, tmp_path)
    assert "track_other" not in str(error.value)


def test_a_job_is_refused_for_a_category_that_its_dataset_does_not_have(tmp_path):
    (tmp_path / "own.yaml").write_text(json.dumps({"title": "x", "grid": [{**BLOCK, "datasets": {"visa": ["pcb1"]}}]}))
    plan = Plan(load_bench({}, tmp_path))
    for category, message in (("pcb5", "no category 'pcb5'; did you mean"), ("$(touch f)", "a name must begin with")):
        with pytest.raises(NfbenchError, match=re.escape("dataset 'visa': ") + f".*{re.escape(message)}"):
            plan.prepare("visa", category)
