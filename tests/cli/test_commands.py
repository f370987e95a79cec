"""The command line: its output, and one clear line for each user error."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.plan.specs import ExtractSpec, PrepareSpec

OF_CATEGORY = ("train", "test_normal", "test_anomalous")


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


def test_describe_trains_the_backbone_where_the_method_does():
    command = ("describe", "devnet", "--backbone", "resnet18.tv_in1k", "--input-size", 64, "--levels", "4", "--json")
    description = json.loads(printed(*command))
    assert description["parameters"]["total"] > 11e6
    assert description["image"] == [3, 64, 64]


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
        ("metrics", "| `miou_nfa` | mean IoU of the a contrario mask, NFA < 1 | percent | highest | masks, latents |"),
        ("experiments", "quickstart"),
        ("tables", "results: A table of results"),
        ("figures", "maps: Examples"),
    ],
)
def test_list(kind, name, repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert name in printed("list", kind)


def test_data_check_counts(image_folder):
    found = json.loads(printed("data", "check", "folder", "--root", image_folder, "--json"))
    assert found["categories"]["part"] == {
        "train": 6, "validation": 0, "test_normal": 3, "test_anomalous": 3, "unlabelled": 0, "masks": 3,
        "official": None, "sizes": ["48x40"], "broken": [], "duplicates": [], "empty_masks": [],
    }  # fmt: skip


def test_data_check_on_mvtec_ad(mvtec_root):
    found = json.loads(printed("data", "check", "mvtec_ad", "--root", mvtec_root, "--json"))
    counts = {name: tuple(category[key] for key in OF_CATEGORY) for name, category in found["categories"].items()}
    official = {name: tuple(category["official"].values()) for name, category in found["categories"].items()}
    assert counts["bottle"] == official["bottle"] == (209, 20, 63)
    assert counts["transistor"] == official["transistor"] == (213, 60, 40)
    assert {"bottle", "transistor"}.isdisjoint(found["missing"])
    assert len(found["missing"]) + len(counts) == 15
    assert not any(category["broken"] or category["empty_masks"] for category in found["categories"].values())


def test_data_list_says_what_is_there_and_how_to_get_the_rest(tmp_path):
    (tmp_path / "visa").mkdir()
    text = printed("data", "list", "--data-root", tmp_path, "--output", tmp_path / "list.json")
    assert "visa: VisA, there; 10,821 images; CC BY 4.0\n" in text
    assert "btad: BTAD, to be fetched; 2,540 images" in text
    assert "lgg_mri: LGG-MRI, to be downloaded by hand; 110 patients, 3,929 slices, 1,373 slices with tumour" in text
    rows = json.loads((tmp_path / "list.json").read_text())
    assert len(rows) == 10
    assert all(row["citation"] and row["homepage"] for row in rows)


def test_data_check_lists_all_that_is_wrong(image_folder, tmp_path):
    part = image_folder / "part"
    (part / "train/good/000.png").write_bytes((part / "train/good/000.png").read_bytes()[:100])
    shutil.copy(part / "test/good/000.png", part / "test/good/copy.png")
    Image.new("L", (48, 40)).save(part / "ground_truth/dent/000_mask.png")
    Image.new("L", (20, 40), 1).save(part / "ground_truth/dent/002_mask.png")
    done = run("data", "check", "folder", "--root", image_folder, "--output", tmp_path / "check.json")
    assert isinstance(done.exception, NfbenchError)
    assert "good/000.png cannot be decoded" in done.output
    assert "002_mask.png is 20 x 40 pixels, its image is 48 x 40" in done.output
    assert re.search(r"mask without defect: .*dent/000_mask.png", done.output)
    assert re.search(r"equal: .*good/000.png, .*good/copy.png", done.output)
    found = json.loads((tmp_path / "check.json").read_text())["categories"]["part"]
    assert [len(found[key]) for key in ("broken", "duplicates", "empty_masks")] == [2, 1, 1]


def test_data_check_holds_facts_and_counts_against_published_ones(tmp_path):
    for name in ("lgg_mri", "shanghaitech", "btad"):
        find_dataset(name).miniature(tmp_path / name)
    assert "patients: 7; published: 110\n" in printed("data", "check", "lgg_mri", "--root", tmp_path / "lgg_mri")
    text = printed("data", "check", "shanghaitech", "--root", tmp_path / "shanghaitech", "--stride", "4")
    assert "01: 13 for training, 8 normal and 5 anomalous for testing" in text
    assert "test videos: 12; published: 107" in text
    text = printed("data", "check", "btad", "--root", tmp_path / "btad")
    assert "01: 8 for training, 4 normal and 12 anomalous for testing; published: 400 for training, 21 normal" in text
    assert re.search(r"mask without defect: .*03/ground_truth/ko/0000.bmp", text)


def test_a_dataset_behind_a_login_is_one_line_with_what_to_do(tmp_path):
    command = [sys.executable, "-m", "nfbench", "data", "fetch", "lgg_mri", "--data-root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: dataset 'lgg_mri' cannot be .*Kaggle asks for a login.*--archive FILE\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "fetch", "visaa"], r"no download source is registered for dataset 'visaa'; did you mean 'visa'\?"),
        (["describe", "uflw", "--backbone", "resnet18.a1_in1k"], r"unknown method 'uflw'; did you mean 'uflow'\?"),
        (["describe", "uflow", "--backbone", "resnet18"], "unknown backbone 'resnet18'"),
        (["describe", "uflow", "--backbone", "resnet18.a1_in1k", "--set", "lr"], "--set lr: expected key=value"),
        (["describe", "uflow", "--backbone", "resnet18.a1_in1k", "--levels", "a"], "--levels a: expected numbers"),
        (["data", "check", "mvtec_ad", "--root", "/nowhere"], "folder /nowhere does not exist"),
        (["train_flow", "--spec", "{"], "--spec: not valid JSON"),
        (["evaluate_run", "--spec", "/nowhere.json"], r"/nowhere\.json"),
        (["prepare_data", "--spec", '{"categry": "x"}'], r"unknown key 'categry'; did you mean 'category'\?"),
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


def test_a_class_without_training_images_is_refused_before_it_is_trained_on(image_folder, tmp_path):
    manifest = tmp_path / "m.csv"
    read = PrepareSpec(
        dataset={"dataset": "folder"}, category="part", root=str(image_folder), manifest=str(manifest)
    ).to_json()  # fmt: skip
    assert run("prepare_data", "--spec", read).exit_code == 0
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(line for line in lines if not line.startswith("train")))
    manifest.with_suffix(".json").unlink()
    extract = ExtractSpec(
        manifest=str(manifest), view="train", backbone={"name": "tf_efficientnet_lite0", "weights": "random"},
        features=str(tmp_path / "train" / "meta.json"),
    )  # fmt: skip
    (tmp_path / "spec.json").write_text(extract.to_json())
    refused = run("extract_features", "--spec", tmp_path / "spec.json")
    assert isinstance(refused.exception, NfbenchError)
    assert str(refused.exception) == f"manifest {manifest} has no image of view 'train'"
    shutil.rmtree(image_folder / "part" / "train" / "good")
    (image_folder / "part" / "train" / "good").mkdir()
    with pytest.raises(NfbenchError, match=r"part/train/good has no image"):
        raise run("prepare_data", "--spec", read).exception
