"""Options of commands are parsed like settings in files."""

import pytest
import yaml

from nfbench.cli.options import parse_overrides
from nfbench.config.reading import read_yaml, typed
from nfbench.core.errors import NfbenchError
from tests.in_process import run_nfbench

VALUES = [
    "1e-3", "1e3", "01", "null", "~", "no", "yes", "on", "true", "2024", "2024-01-01", "1_000", "0x10", "0o7", "1.",
    ".5", "-.inf", ".nan", "nan", "inf", "'01'", '"null"', "[1, 2.0, a]", "{a: 1e3}", "", "1:30", "a b",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_what_it_is_in_a_file(value):
    found = parse_overrides([f"key={value}"])
    in_file = typed(read_yaml(f"settings: {{key: {value}}}"))["settings"]
    assert repr(found) == repr(in_file)


def test_words_numbers_and_nothing():
    found = parse_overrides(["a=1e-3", "b=null", "c=no", "d=true", "e=01", "f='01'", "g=x=y"])
    assert found == {"a": 1e-3, "b": None, "c": "no", "d": True, "e": 1, "f": "01", "g": "x=y"}


@pytest.mark.parametrize(("pair", "message"), [("lr", "expected key=value"), ("lr=[1", "not valid YAML")])
def test_what_is_no_value_is_one_line(pair, message):
    with pytest.raises(NfbenchError, match=rf"--set {pair[:2]}.*{message}") as error:
        parse_overrides([pair])
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, yaml.YAMLError)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--levels", "3,1", r"options: 'levels': must be in order, each once: \[1, 3\]"),
        ("--levels", "1,1", r"options: 'levels': must be in order, each once: \[1\]"),
        ("--levels", "9", r"has levels \[0, 1, 2, 3, 4\], not \[9\]"),
        ("--levels", "1;3", "--levels 1;3: expected numbers with commas"),
        ("--scales", "2,1", r"options: 'scales': must be in order"),
        ("--scales", "0", "cannot be divided by 0"),
        ("--input-size", "0", "options: 'input_size': Input should be greater than or equal to 32"),
        ("--set", "clamp_rule=Outer", "Input should be 'outer' or 'inner'"),
    ],
)
def test_options_of_a_description_are_checked_as_those_of_a_grid(option, value, message, tmp_path):
    with pytest.raises(NfbenchError, match=message):
        run_nfbench(tmp_path, "describe", "fastflow", "--backbone", "tf_efficientnet_lite0", option, value)
