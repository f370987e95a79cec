"""nfbench check: confirms that all is valid or names every fault, and counts cells."""

import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from nfbench.cli import app

EXPERIMENT = """
title: own
datasets: {own: {root: images}}
grid: [{methods: [padim], backbones: [tf_efficientnet_lite0], datasets: {own: available, btad: [01]}}]
tables: {own: {title: own, metric: image_auroc}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, repository):
    shutil.copy(repository / "config.yaml", tmp_path)
    (tmp_path / "workflow" / "experiments").mkdir(parents=True)
    (tmp_path / "workflow" / "experiments" / "quickstart.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(*arguments):
    return CliRunner().invoke(app, ["check", *arguments], catch_exceptions=True)


def test_what_is_sound_is_counted(folder):
    for category in ("part", "another"):
        (folder / "images" / category / "train" / "good").mkdir(parents=True)
    assert check().output == "1 experiment is valid\nquickstart: 3 cells\n"
    assert check("quickstart").output == "1 experiment is valid\nquickstart: 3 cells\n"


def test_an_experiment_whose_images_are_not_there_is_sound_all_the_same(folder):
    done = check()
    assert done.exit_code == 0
    assert done.output.endswith("quickstart: no cells now, folder images does not exist\n")
    assert "folder images does not exist" in str(check("quickstart").exception)


def test_all_faults_are_printed(folder):
    experiments = folder / "workflow" / "experiments"
    (experiments / "list.yaml").write_text("- a\n")
    (experiments / "metric.yaml").write_text(
        EXPERIMENT.replace("image_auroc", "image_aurok").replace("{own: {t", "{b: {t")
    )
    (folder / "config.yaml").write_text("sedes: 3\n")
    done = subprocess.run([sys.executable, "-m", "nfbench", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for fault in (
        "config.yaml: unknown key 'sedes'",
        "list.yaml: expected keys and val",
        "metric.yaml: 'tables.b.metric': unknown",
    ):
        assert fault in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"), [(["quikstart"], "'quickstart'"), (["--config", '{"experiment": "quick"}'], "'quickstart'")]
)
def test_an_unknown_experiment_is_named(folder, arguments, hint):
    done = check(*arguments)
    assert done.exit_code == 1
    assert f"did you mean {hint}?" in str(done.exception)


@pytest.mark.parametrize("of", ["config", "experiment"])
def test_schemas_are_printed(repository, of):
    written = (repository / "workflow" / f"{of}.schema.json").read_text()
    assert CliRunner().invoke(app, ["schema", of]).output == written


def test_an_unknown_device_is_no_choice():
    done = CliRunner().invoke(app, ["train_flow", "--device", "gpu"])
    assert done.exit_code == 2
    assert "'auto', 'cpu', 'cuda'" in done.output


@pytest.mark.parametrize(
    ("method", "backbone", "message"),
    [
        ("padim", "{name: image}", "'padim' on 'image@256': method 'PaDiM' reads levels, but its backbone has none"),
        ("ae_ssim", "{name: tf_efficientnet_lite0, image: true}", "method 'AE-SSIM' reads only the image; give it"),
        ("sanflow", "{name: tf_efficientnet_lite0}", "method 'SANFlow' needs 'image: true' in its backbone"),
        ("fastflow", "{name: tf_efficientnet_lite0, image: true}", "method 'FastFlow' does not use 'image: true'"),
    ],
)
def test_methods_and_backbones_that_do_not_go_together_are_named_before_the_first_job(
    folder, method, backbone, message
):
    text = EXPERIMENT.replace("[padim]", f"[{method}]").replace("[tf_efficientnet_lite0]", f"[{backbone}]")
    (folder / "workflow" / "experiments" / "quickstart.yaml").write_text(text)
    done = CliRunner().invoke(app, ["check_start"], catch_exceptions=True)
    assert done.exit_code == 1
    assert "experiment 'quickstart'" in str(done.exception)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)
