"""YAML of the configuration: text stays text, and a value that is not a mapping gives one line."""

import pytest

from nfbench.config import load_bench, read_config, read_mapping, read_yaml, typed
from nfbench.core.errors import NfbenchError


@pytest.mark.parametrize("name", ["01", "08", "1_2", "1e5", "no", "yes", "on", "2024", "2024-01-01", "0x10", "true"])
def test_a_name_without_quotes_stays_as_it_is_written(tmp_path, name):
    (tmp_path / "e.yaml").write_text(
        f"""
title: {name}
datasets: {{{name}: {{root: images}}, u: {{union: {{{name}: [{name}]}}}}}}
variants: {{{name}: {{method: padim, title: {name}}}}}
grid: [{{methods: [{name}], backbones: [tf_efficientnet_lite0], datasets: {{{name}: [{name}], u: available}}}}]
tables: {{{name}: {{title: x, metric: image_ap}}}}
"""
    )
    bench = load_bench({}, tmp_path)
    experiment = bench.experiments["e"]
    assert experiment.title == name
    assert experiment.grid[0].methods == (name,)
    assert experiment.grid[0].datasets == {name: (name,), "u": "available"}
    assert bench.dataset("u").union == {name: (name,)}
    assert bench.variant(name).title == name
    assert list(experiment.tables) == [name]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("null", None),
        ("~", None),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("3", 3),
        ("010", 10),
        ("1e-3", 0.001),
        ("-.5", -0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("1_000", "1_000"),
        ("'3'", "3"),
        ('"true"', "true"),
        ("3x3", "3x3"),
        ("[1, two, {a: 1e5}]", [1, "two", {"a": 1e5}]),
    ],
)
def test_a_value_of_any_type_is_read_as_yaml_1_2(written, value):
    found = typed(read_yaml(written))
    assert found == value
    assert type(found) is type(value)


def test_settings_and_search_spaces_have_types(tmp_path):
    (tmp_path / "e.yaml").write_text(
        """
title: x
variants:
  v:
    method: fastflow
    settings: {gradient_clip: null, lr: 1e-3, kernels: 3x3, drop_last: true, epochs: 2, score: no}
    search:
      backbones: [tf_efficientnet_lite0]
      space: {lr: {low: 1e-4, high: 1e-2, log: true}, flow_steps: {low: 1, high: 2}, smoothing: null,
              batch_size: {choices: [8, "16", 3.5, yes, true]}}
grid: [{methods: [v], backbones: [tf_efficientnet_lite0], datasets: {elpv: [mono]}}]
"""
    )
    variant = load_bench({}, tmp_path).variant("v")
    assert variant.settings == {
        "gradient_clip": None, "lr": 0.001, "kernels": "3x3", "drop_last": True, "epochs": 2, "score": "no"
    }  # fmt: skip
    space = variant.search.space
    assert (space["lr"].low, space["lr"].high, space["lr"].log) == (0.0001, 0.01, True)
    assert space["flow_steps"].whole
    assert not space["lr"].whole
    assert space["smoothing"] is None
    assert space["batch_size"].choices == (8, "16", 3.5, "yes", True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# a comment alone\n", "the file is empty"),
        (b"- a\n- b\n", "expected keys and values, such as 'title: ...', but found a list"),
        (b"words\n", "expected keys and values, such as 'title: ...', but found one value"),
        (b"title: [", "not valid YAML"),
        (b"title: \xff\n", "not UTF-8"),
        (b"title: a\ntitle: b\n", "duplicate key 'title'"),
        (b"tables: {a: 1, a: 2}\n", "duplicate key 'a'"),
        (b"a: \x00\n", "not valid YAML"),
        (b"a: *b\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_named_by_one_line(tmp_path, content, message):
    path = tmp_path / "notes.yaml"
    path.write_bytes(content)
    for read in (lambda: read_mapping(path), lambda: load_bench({}, tmp_path)):
        with pytest.raises(NfbenchError) as error:
            read()
        assert str(error.value).startswith(f"{path}: ")
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_merged_key_may_be_given_again():
    assert read_yaml("{a: &a {x: one, y: two}, b: &b {<<: *a, x: three}, c: {<<: *b, x: four}}")["c"] == {
        "x": "four",
        "y": "two",
    }


def test_keys_of_a_config_file_give_way_to_overrides(tmp_path):
    (tmp_path / "config.yaml").write_text("seeds: 3\ncategories: [01, 08]\n")
    assert read_config(tmp_path / "config.yaml", {"seeds": 5}) == {"seeds": 5, "categories": ["01", "08"]}
    with pytest.raises(NfbenchError, match=r"none.yaml: cannot be read: No such file"):
        read_config(tmp_path / "none.yaml")
