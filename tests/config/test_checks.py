"""Every name in the configuration and the experiments is checked; each wrong name gives one line."""

import json
import re

import pytest
import yaml

from nfbench.config import Config, Experiment, load_bench, read_config, read_mapping, typed
from nfbench.core.errors import NfbenchError

LITE = {"name": "tf_efficientnet_lite0", "input_size": 64}
BLOCK = {"methods": ["padim", "v"], "backbones": [LITE], "datasets": {"mvtec_ad": ["bottle"], "own": "available"}}
SOUND = {
    "title": "x",
    "datasets": {"own": {"root": "images"}},
    "variants": {"v": {"method": "fastflow"}},
    "grid": [BLOCK],
}
TABLE = {"title": "t", "metric": "pixel_auroc"}
METHODS = {"kind": "methods", "title": "t", "metrics": ["image_auroc"]}
COUNTED = {"kind": "parameters", "title": "t", "rows": [{"method": "padim", "backbone": LITE}]}
TABLE_1 = "uflow_table1_pixel_auroc"
LAMBDA = "hgad_ablation_lambda"


def load(folder, config=None, **keys):
    (folder / "own.yaml").write_text(yaml.safe_dump({**SOUND, **keys}))
    return load_bench(config or {}, folder)


def block(**keys):
    return {"grid": [{**BLOCK, **keys}]}


def table(**keys):
    return {"tables": {"t": {**TABLE, **keys}}}


def methods_table(**keys):
    return {"tables": {"t": {**METHODS, **keys}}}


def backbones_table(**keys):
    rows = {"rows": [{"backbone": LITE}], **keys}
    return {"tables": {"t": {"kind": "backbones", "title": "t", "metrics": ["image_auroc"], **rows}}}


GRIDS = [
    (block(methods=["padm"]), "'grid.0.methods': no method or variant 'padm'; did you mean 'padim'?"),
    (block(backbones=["tf_efficientnet_lit0"]), "unknown backbone 'tf_efficientnet_lit0'; did you mean"),
    (block(backbones=[{**LITE, "levels": [7]}]), "'grid.0.backbones.0': backbone 'tf_efficientnet_lite0' has levels"),
    (block(backbones=[{**LITE, "levels": [3, 1]}]), "'grid.0.backbones.0.levels': must be in order, each once: [1, 3]"),
    (block(backbones=[{**LITE, "levels": [2, 2]}]), "levels': must be in order, each once: [2]"),
    (block(backbones=[{**LITE, "scales": [3]}]), "an input of 64 pixels cannot be divided by 3"),
    (block(backbones=[{"name": "cait_m48_448", "input_size": 224}]), "takes images of 448 pixels alone"),
    (block(backbones=[{**LITE, "interpolation": "bilinaer"}]), "'grid.0.backbones.0.interpolation'"),
    (block(backbones=[{**LITE, "padding": "zero"}]), "'grid.0.backbones.0.padding'"),
    (
        block(backbones=[{**LITE, "weights": "rndom"}]),
        "weights': 'rndom' is neither a known word nor a path; did you mean 'random'?",
    ),
    (block(datasets={"mvtecad": "available"}), "'grid.0.datasets': no dataset 'mvtecad'; did you mean 'mvtec_ad'?"),
    (block(datasets={"mvtec_ad": ["botle"]}), "'mvtec_ad' has no category 'botle'; did you mean 'bottle'?"),
    (block(datasets={"mvtec_ad": {"available": ["botle"]}}), "'mvtec_ad' has no category 'botle'; did you mean"),
    (block(datasets={"btad": ["1"]}), "'btad' has no category '1'; did you mean '01'?"),
    (block(datasets={"own": "availabel"}), "'grid.0.datasets.own': takes a list of categories, 'available'"),
    (
        block(datasets={"own": 3}),
        "'grid.0.datasets.own': takes a list of categories, 'available', or {available: [...]}",
    ),
    (block(datasets={}), "'grid.0.datasets'"),
    (block(setting="one-clas"), "'grid.0.setting'"),
    (
        {"datasets": {"own": {"dataset": "foldr", "root": "x"}}},
        "'datasets.own.dataset': no reader 'foldr'; did you mean",
    ),
    (
        {"datasets": {"own": {"union": {"vis": "available"}}}},
        "'datasets.own.union': no dataset 'vis'; did you mean 'visa'?",
    ),
    ({"datasets": {"own": {"union": {"visa": ["pcb"]}}}}, "'datasets.own.union.visa': 'visa' has no category 'pcb'"),
    ({"datasets": {"own": {"union": {"own": "available"}}}}, "'own' is a union itself; list its datasets instead"),
    ({"variants": {"v": {"method": "fastflw"}}}, "'variants.v.method': no method 'fastflw'; did you mean 'fastflow'?"),
    (
        {"variants": {"v": {"method": "fastflow", "search": {"backbones": ["alexnt"]}}}},
        "'variants.v.search.backbones.0': unknown backbone 'alexnt'; did you mean 'alexnet'?",
    ),
    ({"grid": [], "runs_of": "onw"}, "'runs_of' names no experiment 'onw'"),
]
PLANS = [
    (table(metric="image_aurok"), "'tables.t.metric': unknown metric 'image_aurok'; did you mean 'image_auroc'?"),
    (table(metric="nothing"), "'nothing'; known: alarmed_fair, "),
    (table(metric_of={"padim": "pixel_aurc"}), "'tables.t.metric_of.padim': unknown metric 'pixel_aurc'; did you mean"),
    (table(metric_of={"uflow": "miou_nfa"}), "'tables.t.metric_of': no method among the experiment's 'uflow'"),
    (table(metric_of={"v": "miou_fair"}), "'tables.t.metric_of': no method among the experiment's 'v'"),
    (table(setting="unified"), "'tables.t.setting': no runs in the setting 'unified'"),
    (table(selections=["lst"]), "'tables.t.selections.0'"),
    (table(kind="result"), "'tables.t.kind': unknown kind 'result'; did you mean 'results'?"),
    (table(published="uflow_table1"), "'tables.t.published': no published table 'uflow_table1'; did you mean"),
    (table(published="index"), "no published table 'index'"),
    (table(published=TABLE_1, published_by="metod"), "has no column 'metod'; did you mean 'method'?"),
    (
        table(published=TABLE_1, metric="pixel_ap"),
        f"'tables.t.metric': published table '{TABLE_1}' has no values of 'pixel_ap'",
    ),
    (table(published=TABLE_1, published_as={"padim": "PaDim"}), "no published method 'PaDim'; did you mean 'PaDiM'?"),
    (
        table(published=TABLE_1, published_as={"pdim": "PaDiM"}),
        "'tables.t.published_as': no method among the runs 'pdim'",
    ),
    (
        table(published=TABLE_1, published_as={"v": {"alexnet": "FastFlow"}}),
        "'tables.t.published_as.v': no backbone among its runs 'alexnet'",
    ),
    (table(published=TABLE_1, published_datasets={"own": "MVTec"}), "has no dataset 'MVTec'; did you mean 'MVTec AD'?"),
    (
        table(published=TABLE_1, published_datasets={"onw": "MVTec AD"}),
        "no dataset among the runs 'onw'; did you mean 'own'?",
    ),
    (table(published=LAMBDA), "has values for the settings unified, not for one-class"),
    (
        methods_table(datasets=["own", "onw"]),
        "'tables.t.datasets': no dataset among the runs 'onw'; did you mean 'own'?",
    ),
    (methods_table(metrics=["image_auroc", "image_roc"]), "'tables.t.metrics.1': unknown metric 'image_roc'"),
    (methods_table(costs=["second"]), "'tables.t.costs.0'"),
    (methods_table(rows=[{"method": "padm"}]), "'tables.t.rows.0.method': no run with the method 'padm'; did you mean"),
    (
        methods_table(rows=[{"method": "padim", "backbone": {"name": "alexnet"}}]),
        "'tables.t.rows.0.backbone': no run of 'padim' on 'alexnet@256'",
    ),
    (
        methods_table(
            published=TABLE_1, metrics=["pixel_auroc"], rows=[{"method": "padim", "published": {"methd": "x"}}]
        ),
        "'tables.t.rows.0.published': 'uflow_table1_pixel_auroc' has no column 'methd'; did you mean 'method'?",
    ),
    (
        methods_table(
            published=TABLE_1, metrics=["pixel_auroc"], rows=[{"method": "v", "published": {"method": "PaDim"}}]
        ),
        "'tables.t.rows.0.published.method': 'uflow_table1_pixel_auroc' has no 'PaDim' in it; did you mean 'PaDiM'?",
    ),
    (
        methods_table(
            published=TABLE_1, metrics=["pixel_auroc"], rows=[{"method": "v", "published": {"method": "PaDiM"}}]
        ),
        "rows with method 'PaDiM' and metric 'pixel_auroc', expected one",
    ),
    (
        methods_table(
            published=TABLE_1,
            metrics=["pixel_auroc"],
            published_datasets={"own": "MVTec"},
            rows=[{"method": "v", "published": {"method": "PaDiM"}}],
        ),
        f"'tables.t.rows.0.published.dataset': '{TABLE_1}' has no 'MVTec' in it; did you mean 'MVTec AD'?",
    ),
    (
        methods_table(published_datasets={"onw": "MVTec AD"}),
        "'tables.t.published_datasets': no dataset among the runs 'onw'; did you mean 'own'?",
    ),
    (
        methods_table(published=LAMBDA, rows=[{"method": "v", "published": {"lambda1": "1", "lambda2": "1"}}]),
        "its value has the setting unified, the runs have one-class",
    ),
    (
        methods_table(published=TABLE_1, rows=[{"method": "v", "published": {"method": "PaDiM"}}]),
        f"'tables.t.metrics': '{TABLE_1}' has none of these metrics, only pixel_auroc",
    ),
    (backbones_table(rows=[{"backbone": "alexnet"}]), "'tables.t.rows.0.backbone'"),
    (backbones_table(rows=[{"backbone": {"name": "alexnet"}}]), "no run with the backbone 'alexnet@256'"),
    (backbones_table(published="simplenet_backbone"), "no published table 'simplenet_backbone'; did you mean"),
    (
        backbones_table(
            published="simplenet_backbones", rows=[{"backbone": LITE, "published": {"backbone": "ResNet8"}}]
        ),
        "has no 'ResNet8' in it; did you mean 'ResNet18'?",
    ),
    (backbones_table(rows=[{"backbone": LITE, "published": {"backbone": "x"}}]), "the table needs 'published'"),
    ({"tables": {"t": {"kind": "settings", "title": "t", "metrics": ["image_ap"]}}}, "no runs in the setting unified"),
    (
        {"tables": {"t": {**COUNTED, "published": "uflow_table4"}}},
        "'tables.t.published': no published table 'uflow_table4'",
    ),
    (
        {"tables": {"t": {**COUNTED, "rows": [{"method": "padm", "backbone": {"name": "resnt"}}]}}},
        "'tables.t.rows.0.method': no method or variant 'padm'",
    ),
    (
        {"tables": {"t": {"kind": "alarms", "title": "t", "metrics": ["false_alarms_nfa"]}}},
        "'tables.t.metrics': 'false_alarms_nfa' is not a share of normal images with a false alarm; known: alarmed",
    ),
    ({"figures": {"f": {"kind": "map"}}}, "'figures.f.kind'"),
    (
        {"figures": {"f": {"kind": "maps", "setting": "unified"}}},
        "'figures.f.setting': no runs in the setting 'unified'",
    ),
]


@pytest.mark.parametrize(("keys", "message"), GRIDS + PLANS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_name_that_stands_for_nothing_is_one_line(tmp_path, keys, message):
    with pytest.raises(NfbenchError) as error:
        load(tmp_path, **keys)
    lines = str(error.value).splitlines()
    assert any(line.startswith(f"{tmp_path}/own.yaml: ") and message in line for line in lines), lines


def test_what_is_sound_passes(tmp_path):
    published = {"published": TABLE_1, "published_as": {"v": "FastFlow"}, "published_datasets": {"own": "MVTec AD"}}
    row = {"method": "v", "published": {"method": "FastFlow", "category": "average_total"}}
    tables = {
        "results": {**TABLE, **published, "metric_of": {"fastflow": "pixel_aupro", "padim": "pixel_ap"}},
        "rows": {**METHODS, "metrics": ["pixel_auroc", "image_ap"], "published": TABLE_1, "rows": [row]},
        "counted": COUNTED,
    }
    bench = load(tmp_path, tables=tables, figures={"results": {"kind": "maps", "setting": "one-class"}})
    assert bench.experiment("own").tables.keys() == tables.keys()


def test_several_settings_of_an_experiment_are_told_apart(tmp_path):
    grid = [BLOCK, {**BLOCK, "setting": "unified"}]
    with pytest.raises(NfbenchError, match="runs of the settings one-class, unified, which cannot be compared"):
        load(tmp_path, grid=grid, tables={"t": TABLE})
    load(tmp_path, grid=grid, tables={"t": {**TABLE, "setting": "unified"}})


@pytest.mark.parametrize("kind", ["tables", "figures"])
def test_two_experiments_with_one_name_of_a_table_or_figure_are_both_named(tmp_path, kind):
    part = TABLE if kind == "tables" else {"kind": "maps"}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**SOUND, kind: {"same": part}}))
    message = (
        rf"other.yaml: '{kind}.same': \S*own.yaml also has a {kind[:-1]} 'same'; rename|own.yaml: .*other.yaml also has"
    )
    with pytest.raises(NfbenchError, match=message):
        load(tmp_path, **{kind: {"same": part}})


def test_all_faults_of_all_files_are_found(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump({**SOUND, "sees": 3, "variants": {"w": {"method": "uflow"}}}))
    (tmp_path / "takes.yaml").write_text("title: x\nruns_of: broken\ntables: {u: {title: x, metric: image_ap}}\n")
    with pytest.raises(NfbenchError) as error:
        load(tmp_path, {"sedes": 3}, **block(methods=["padm", "w"], backbones=["alexnt"]))
    lines = str(error.value).splitlines()
    for found in (
        "config.yaml: unknown key 'sedes'",
        "list.yaml: expected keys",
        "broken.yaml: unknown key 'sees'",
        "padm",
        "alexnt",
    ):
        assert sum(found in line for line in lines) == 1, found
    assert len(lines) == 5, "a name that a file with faults defines is no further fault"


def test_runs_of_an_experiment_that_has_none_are_named(tmp_path):
    (tmp_path / "first.yaml").write_text("title: x\nruns_of: own\ntables: {a: {title: x, metric: image_ap}}\n")
    (tmp_path / "second.yaml").write_text("title: x\nruns_of: first\ntables: {b: {title: x, metric: image_ap}}\n")
    with pytest.raises(NfbenchError, match=r"second.yaml: 'runs_of' names 'first', .* name 'own', whose runs it shows"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["mvtec_ad", "visa", "btad", "shanghaitech", "synthetic"])
def test_a_dataset_with_the_name_of_a_reader_keeps_it(tmp_path, name):
    datasets = {name: {"root": "elsewhere"}}
    bench = load(tmp_path, {"datasets": datasets}, **block(datasets={name: "available"}))
    assert bench.dataset(name).dataset == name
    assert str(bench.dataset_root(name)) == "elsewhere"
    assert bench.official_categories(name)
    with pytest.raises(NfbenchError, match=f"'{name}' has no category 'part'"):
        load(tmp_path, {"datasets": datasets}, **block(datasets={name: ["part"]}))


@pytest.mark.parametrize(
    "dataset", [{"dataset": "folder", "root": "x"}, {"dataset": "elpv"}, {"union": {"elpv": "available"}}]
)
def test_a_reader_under_the_name_of_another_is_named(tmp_path, dataset):
    with pytest.raises(NfbenchError, match=r"config.yaml: 'datasets': 'visa' is the name of a reader.*another name"):
        load(tmp_path, {"datasets": {"visa": dataset}})
    with pytest.raises(NfbenchError, match=r"own.yaml: 'datasets': 'visa' is the name of a reader"):
        load(tmp_path, datasets={"visa": dataset, "own": {"root": "x"}})


@pytest.mark.parametrize(
    "variant", [{"method": "patchcore"}, {"method": "padim", "settings": {"a": 1}}, {"method": "padim", "title": "x"}]
)
def test_a_variant_with_the_name_of_a_method_is_that_method(tmp_path, variant):
    with pytest.raises(NfbenchError, match=r"config.yaml: 'variants': 'padim' is the name of a method; .* padim-own"):
        load(tmp_path, {"variants": {"padim": variant}})
    load(tmp_path, {"variants": {"padim": {"method": "padim"}}})


def test_experiments_of_the_repository_are_sound_and_fit_their_schema(repository):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((repository / "workflow" / "experiment.schema.json").read_text())
    paths = sorted((repository / "workflow" / "experiments").glob("*.yaml"))
    bench = load_bench(read_config(repository / "config.yaml"), repository / "workflow" / "experiments")
    assert sorted(bench.experiments) == [path.stem for path in paths]
    for path in paths:
        assert path.read_text().startswith("# yaml-language-server: $schema=../experiment.schema.json\n"), path
        jsonschema.validate(typed(read_mapping(path)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SOUND, "sees": 3}, schema)


@pytest.mark.parametrize(("model", "file", "of"), [(Config, "config", ""), (Experiment, "experiment", " experiment")])
def test_schemas_agree_with_the_models(repository, model, file, of):
    written = json.loads((repository / "workflow" / f"{file}.schema.json").read_text())
    assert written == model.model_json_schema(), f"run 'nfbench schema{of} > workflow/{file}.schema.json'"
    head = (repository / "config.yaml").read_text().splitlines()[0]
    assert re.fullmatch(r"# yaml-language-server: \$schema=workflow/config\.schema\.json", head)
