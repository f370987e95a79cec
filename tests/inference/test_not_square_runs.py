"""Runs on strips, images wider than high: evaluation, predictions, exported and packed files and tables agree."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nfbench.detector import Detector
from nfbench.inference.card import model_card
from nfbench.inference.decisions import Decisions
from nfbench.inference.export import export_model
from nfbench.inference.exported import load_exported
from nfbench.inference.images import Given
from nfbench.inference.load import load_model
from nfbench.inference.package import pack, read_package
from nfbench.inference.predict import predict
from nfbench.results.aggregate import read_results
from nfbench.results.files import ImageScore, read_rows
from nfbench.results.record import read_record
from nfbench.results.scored import training_of
from tests.in_process import run_experiment
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
HEIGHT, WIDTH = 40, 100
BOX = np.s_[10:20, 60:90]
"""Rows and columns of every anomaly."""
LITE = {"name": "tf_efficientnet_lite0", "input_size": [64, 160], "levels": [1, 2, 3], "weights": "random"}
METHODS = {
    "flow": {"method": "fastflow", "settings": {"epochs": 2, "batch_size": 4, "val_fraction": 0.3}},
    "pyramid": {"method": "uflow", "settings": {"epochs": 1, "batch_size": 4, "val_fraction": 0.3}},
    "statistics": {"method": "padim", "settings": {"folds": 3, "reduced_dimensions": 40}},
}


def draw(folder: Path) -> None:
    """A category of strips with a gradient from left to right, and bright boxes in the anomalous ones."""
    rng = np.random.default_rng(0)

    def save(path: str, anomalous: bool = False) -> None:
        image = np.linspace(60, 160, WIDTH)[None, :, None] + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
        if anomalous:
            image[BOX] = 250
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / path)

    for number in range(12):
        save(f"train/good/{number:03}.png")
    for number in range(4):
        save(f"test/good/{number:03}.png")
        save(f"test/box/{number:03}.png", anomalous=True)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[BOX] = 255
        path = folder / f"ground_truth/box/{number:03}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def make(folder: Path) -> None:
    Checkout(folder)
    draw(folder / "strips" / "belt")
    experiment = {
        "title": "Strips",
        "keep_models": "last",
        "datasets": {"strips": {"dataset": "folder", "root": str(folder / "strips")}},
        "variants": METHODS,
        "grid": [{"methods": list(METHODS), "backbones": [LITE], "datasets": {"strips": ["belt"]}}],
        "tables": {"strips": {"title": "Strips", "metric": "pixel_auroc"}},
        "figures": {"strips_maps": {"kind": "maps"}},
    }
    (folder / "workflow/experiments/strips.yaml").write_text(yaml.safe_dump(experiment))
    run_experiment(folder, "strips")


@pytest.fixture(scope="module")
def folder(once):
    return once("runs_on_strips", make)


@pytest.fixture(params=METHODS)
def run(request, folder):
    (found,) = folder.glob(f"results/runs/*/strips/belt/{request.param}/*/seed0/run.json")
    return found.parent


def test_the_tag_names_height_and_width(run):
    record = read_record(run / "run.json")
    assert record.cell.backbone == "tf_efficientnet_lite0@64x160-l123-random"
    assert record.features.recipe.backbone.size == (64, 160)
    assert run.parent.name == record.cell.backbone


def test_an_anomaly_is_found_at_its_place(run, folder):
    record = read_record(run / "run.json")
    assert record.selections["last"].metrics["image_auroc"] == 1
    with chdir(folder):
        model = load_model(run, CPU)
        entries = [row.image for row in read_rows(ImageScore, run) if row.label]
        found = list(
            predict(model, Decisions.of(model.thresholds, "sigma"), [Given(path, "x.png") for path in entries])
        )
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[BOX] = True
    for one in found:
        assert one.score_map.shape == (HEIGHT, WIDTH)
        assert one.score_map[mask].mean() > one.score_map[~mask].mean()
        row, column = np.unravel_index(one.score_map.argmax(), one.score_map.shape)
        assert 4 <= row < 26
        assert 50 <= column < 100


def test_predictions_are_those_of_the_evaluation(run, folder):
    known = {row.image: np.float32(row.paper) for row in read_rows(ImageScore, run)}
    with chdir(folder):
        model = load_model(run, CPU)
        found = predict(model, Decisions.of(model.thresholds, "sigma"), [Given(path, "x.png") for path in known])
        assert {one.given.path: np.float32(one.score) for one in found} == known


def test_an_exported_file_agrees_and_knows_its_size(run, folder, tmp_path):
    with chdir(folder):
        model = load_model(run, CPU)
        made = export_model(model, tmp_path / "model.pt2", "torch")
    assert made.agreement.real
    exported = load_exported(made.path)
    assert (exported.size, exported.metadata.side) == ((64, 160), (64, 160))
    assert "height and width" in exported.metadata.resize
    with pytest.raises(ValueError, match=r"must be \(B, 3, 64, 160\) uint8"):
        exported.score(np.zeros((1, 3, 160, 64), np.uint8))


def test_a_package_scores_the_same_and_names_the_size(run, folder, tmp_path):
    with chdir(folder):
        package = read_package(pack(run, tmp_path / "model.nfbench"), CPU)
        model = load_model(run, CPU)
        picture = Image.open(next(iter(read_rows(ImageScore, run))).image)
        np.testing.assert_array_equal(package.score([picture]).maps, model.score([picture]).maps)
        training = training_of(str(run), model.record.cell.cell)
        card = model_card(model.record, training, model.thresholds, None, weights=False)
    assert "`tf_efficientnet_lite0` at 64 × 160 pixels" in card


def test_tables_and_figures_name_and_show_the_size(folder):
    results = read_results(folder / "results/experiments/strips/results.parquet")
    assert set(results.input_size) == {64}
    for name in ("tables/strips/strips.html", "tables/strips/strips.csv", "reports/strips.html"):
        assert "tf_efficientnet_lite0@64x160" in (folder / "results" / name).read_text()
    with Image.open(folder / "results/figures/strips/strips_maps.png") as figure:
        assert min(figure.size) > 100


def test_the_detector_takes_both_sides():
    rng = np.random.default_rng(0)
    normal = rng.integers(90, 110, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
    odd = normal[:2].copy()
    odd[:, *BOX] = 255
    detector = Detector("padim", LITE, settings={"reduced_dimensions": 20}, device="cpu").fit(normal)
    scores = detector.score(np.concatenate([normal[:2], odd]))
    assert scores.maps.shape == (4, 64, 160)
    assert scores.images[2:].min() > scores.images[:2].max()
    row, column = np.unravel_index(scores.maps[2].argmax(), (64, 160))
    assert 6 <= row < 42
    assert 80 <= column < 156
