"""The configuration: errors name the key and the nearest right one; file, models and schema agree."""

import json

import pytest
import yaml

from nfbench.config import AnomaliesConfig, BackboneConfig, Config, Experiment, load_bench, validate
from nfbench.core.errors import NfbenchError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dta_root": "x"}, r"config.yaml: unknown key 'dta_root'; did you mean 'data_root'\?"),
        ({"seeds": 0}, r"'seeds'.*greater than or equal to 1"),
        ({"device": "gpu"}, r"'device'.*'auto', 'cpu' or 'cuda'"),
        ({"datasets": {"mine": {"rot": "x"}}}, r"unknown key 'datasets.mine.rot'; did you mean 'root'\?"),
        ({"variants": {"mine": {"settings": {}}}}, r"'variants.mine.method': Field required"),
    ],
)
def test_wrong_keys_and_values_are_named(values, message):
    with pytest.raises(NfbenchError, match=message):
        validate(Config, values, "config.yaml")


def test_unknown_key_in_a_grid_block_is_named():
    values = {"title": "x", "grid": [{"methods": ["fastflow"], "backbons": ["resnet18"], "datasets": {}}]}
    with pytest.raises(NfbenchError, match=r"unknown key 'grid.0.backbons'; did you mean 'backbones'\?"):
        validate(Experiment, values, "x.yaml")


def test_config_file_holds_every_key_with_its_default(repository):
    values = yaml.safe_load((repository / "config.yaml").read_text())
    assert values == json.loads(Config().model_dump_json())


def test_every_key_of_the_config_file_is_commented(repository):
    lines = (repository / "config.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line and line[0].isalpha()]
    assert len(keys) == len(Config.model_fields)
    assert all(lines[number - 1].startswith("#") for number in keys)


def test_schema_file_agrees_with_the_models(repository):
    written = json.loads((repository / "workflow" / "config.schema.json").read_text())
    assert written == Config.model_json_schema(), "run 'nfbench schema > workflow/config.schema.json'"


def test_schema_accepts_the_config_file_and_refuses_an_unknown_key(repository):
    jsonschema = pytest.importorskip("jsonschema")
    schema = Config.model_json_schema()
    values = yaml.safe_load((repository / "config.yaml").read_text())
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "sees": 3}, schema)


def test_categories_may_be_given_as_text_on_the_command_line():
    assert validate(Config, {"categories": "bottle,cable"}, "x").categories == ("bottle", "cable")


@pytest.mark.parametrize(
    ("backbone", "tag"),
    [
        (BackboneConfig(name="resnet18.tv_in1k"), "resnet18.tv_in1k@256"),
        (BackboneConfig(name="resnet18.tv_in1k", input_size=448, levels=(2, 3)), "resnet18.tv_in1k@448-l23"),
        (BackboneConfig(name="resnet18.tv_in1k", weights="random"), "resnet18.tv_in1k@256-random"),
        (BackboneConfig(name="resnet18.tv_in1k", weights="/my/weights.pth"), "resnet18.tv_in1k@256"),
        (
            BackboneConfig(
                name="alexnet",
                input_size=448,
                levels=(2, 3),
                scales=(1, 2, 4),
                interpolation="bilinear",
                padding="reflect",
                rotations=16,
                pooled=True,
                image=True,
                online=True,
                weights="random",
            ),
            "alexnet@448-l23-s1.2.4-bilinear-reflect-r16-pooled-image-online-random",
        ),
    ],
)
def test_backbone_tag_tells_all_keys_that_are_not_the_default(backbone, tag):
    assert backbone.tag == tag


EXPERIMENT = """
title: one
variants: {fastflow-x: {method: fastflow, settings: {epochs: %d}}}
grid: [{methods: [fastflow-x], backbones: [resnet18.tv_in1k], datasets: {elpv: [mono]}}]
"""


def test_two_experiments_may_not_give_one_variant_two_meanings(tmp_path):
    (tmp_path / "a.yaml").write_text(EXPERIMENT % 1)
    (tmp_path / "b.yaml").write_text(EXPERIMENT % 2)
    with pytest.raises(NfbenchError, match=r"b.yaml: the variant 'fastflow-x' is defined differently in \S+a.yaml"):
        load_bench({}, tmp_path)


def test_experiment_that_is_no_yaml_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("title: [")
    with pytest.raises(NfbenchError, match=r"a.yaml: not valid YAML"):
        load_bench({}, tmp_path)


def test_experiments_of_the_repository_load(repository):
    values = yaml.safe_load((repository / "config.yaml").read_text())
    bench = load_bench(values, repository / "workflow" / "experiments")
    assert {"quickstart", "mvtec_local", "smoke"} <= bench.experiments.keys()
    assert all(name == experiment.name for name, experiment in bench.experiments.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runs_of: smok", "mine.yaml: 'runs_of' names no experiment 'smok'; did you mean 'smoke'"),
        (
            "runs_of: smoke\ngrid: [{methods: [padim], backbones: [alexnet], datasets: {elpv: [mono]}}]",
            "cannot be combined",
        ),
    ],
)
def test_runs_of_another_experiment_that_cannot_be_had_are_named(tmp_path, repository, text, message):
    for path in (repository / "workflow" / "experiments").glob("smoke*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    tables = "tables: {mine: {title: x, metric: image_auroc}}"
    (tmp_path / "mine.yaml").write_text(f"title: x\n{text}\n{tables}\n")
    with pytest.raises(NfbenchError, match=message):
        load_bench({}, tmp_path)


@pytest.mark.parametrize(
    ("anomalies", "seed", "view"),
    [
        ({"generator": "blend", "views": 4}, 3, "pseudo-blend-k4"),
        ({"generator": "rpag", "views": 2, "real": 10}, 3, "pseudo-rpag-k2-real10-seed3"),
        ({"generator": "blend", "online": True}, 0, None),
        ({"real": 10}, 0, None),
    ],
)
def test_views_of_pseudo_anomalies_say_what_they_are_made_of(anomalies, seed, view):
    config = AnomaliesConfig(**anomalies)
    assert config.view(seed) == view
    if view:
        again, of_seed = AnomaliesConfig.of_view(view)
        assert again == config
        assert again.view(of_seed) == view


def test_other_views_are_not_of_pseudo_anomalies():
    assert AnomaliesConfig.of_view("train") is AnomaliesConfig.of_view("test") is None


@pytest.mark.parametrize(
    ("anomalies", "message"),
    [
        ({"generator": "rpag"}, "generator rpag needs real anomalies; set 'real'"),
        ({"views": 3}, "set 'generator', the number of 'real' anomalies, or both"),
        ({"generator": "blur"}, "blend"),
    ],
)
def test_anomalies_that_make_no_sense_are_named(anomalies, message):
    with pytest.raises(NfbenchError, match=message):
        validate(AnomaliesConfig, anomalies, "x.yaml")
