"""The command line: what it prints, and one clear line for what a user gets wrong."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.errors import NfbenchError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=True)


def printed(*arguments):
    done = run(*arguments)
    assert done.exit_code == 0, done.exception
    return done.output


def test_describe_prints_the_published_parameter_counts():
    found = json.loads(
        printed("describe", "fastflow", "--backbone", "wide_resnet50_2.racm_in1k", "--input-size", 256, "--json")
    )
    assert found["parameters"] == {"flow": 41_337_856, "normalization": 3_670_016, "total": 45_007_872}
    assert found["levels"][0] == {"level": 1, "input_size": 256, "shape": [256, 64, 64]}
    assert found["latents"] == [[256, 64, 64], [512, 32, 32], [1024, 16, 16]]


def test_describe_takes_settings_and_levels():
    found = json.loads(
        printed("describe", "uflow", "--backbone", "resnet18.a1_in1k", "--input-size", 448, "--levels", "2,3",
                "--set", "flow_steps=2", "--set", "lr=1e-3", "--json")
    )  # fmt: skip
    assert found["settings"]["flow_steps"] == 2
    assert found["settings"]["lr"] == 1e-3
    assert found["latents"] == [[160, 56, 56], [128, 28, 28]]


def test_describe_in_words():
    text = printed("describe", "uflow", "--backbone", "resnet18.a1_in1k", "--input-size", "448")
    assert "trainable parameters, total: 4,289,736" in text
    assert "level 1: features 64 x 112 x 112\n" in text
    assert "latents 84 x 112 x 112\n" in text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("methods", "uflow"),
        ("backbones", "wide_resnet50_2.tv_in1k"),
        ("datasets", "mvtec_ad"),
        ("experiments", "quickstart"),
    ],
)
def test_list(kind, name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert name in printed("list", kind)


def test_data_check_counts(image_folder):
    found = json.loads(printed("data", "check", "folder", "--root", image_folder, "--json"))
    assert found["categories"]["part"] == {
        "train": 6, "test_normal": 3, "test_anomalous": 3, "masks": 3, "duplicate_images": 0, "sizes": ["48x40"],
    }  # fmt: skip


def test_data_check_on_mvtec_ad(mvtec_root):
    found = json.loads(printed("data", "check", "mvtec_ad", "--root", mvtec_root, "--json"))
    assert found["categories"]["transistor"]["train"] == 213
    assert found["categories"]["bottle"]["test_anomalous"] == 63


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "uflw", "--backbone", "resnet18.a1_in1k"], r"unknown method 'uflw'; did you mean 'uflow'\?"),
        (["describe", "uflow", "--backbone", "resnet18"], "unknown backbone 'resnet18'"),
        (["describe", "uflow", "--backbone", "resnet18.a1_in1k", "--set", "lr"], "--set lr: expected key=value"),
        (["describe", "uflow", "--backbone", "resnet18.a1_in1k", "--levels", "a"], "--levels a: expected numbers"),
        (["data", "check", "mvtec_ad", "--root", "/nowhere"], "folder /nowhere does not exist"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    with pytest.raises(NfbenchError, match=message):
        raise run(*arguments).exception


def test_errors_are_one_line_and_traces_go_to_the_log(tmp_path):
    command = [
        sys.executable,
        "-m",
        "nfbench",
        "--log",
        tmp_path / "log",
        "data",
        "check",
        "mvtec_ad",
        "--root",
        "/nowhere",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: folder /nowhere does not exist")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" in (tmp_path / "log").read_text()
