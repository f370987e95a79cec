"""A submission has what the server of MVTec AD 2 takes, complete or not at all."""

import io
import os
import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import Entry, read_manifest
from nfbench.datasets._submission import MAPS, MASKS, check_images, check_submission, encode_tiff
from nfbench.inference.load import load_model
from nfbench.scoring.maps import resize_map
from tests.in_process import run_experiment
from tests.workflow.conftest import Checkout

READER = find_dataset("mvtec_ad_2")
PRIVATE = ("test_private", "test_private_mixed")


@pytest.fixture(scope="session")
def finished(once) -> Path:
    """A checkout with an experiment of PaDiM on the miniature, all categories, and one with too few."""

    def make(folder: Path) -> None:
        Checkout(folder)
        lite = {"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random"}
        cells = {"methods": ["padim"], "backbones": [lite]}
        for name, categories in (("ad2", "available"), ("few", ["can", "vial"])):
            experiment = {
                "title": "AD 2", "seeds": 1, "keep_models": "last",
                "grid": [{**cells, "datasets": {"mvtec_ad_2": categories}}],
                "tables": {f"{name}_auroc": {"title": "AUROC", "metric": "pixel_auroc"}},
            }  # fmt: skip
            (folder / f"workflow/experiments/{name}.yaml").write_text(yaml.safe_dump(experiment))
        run_experiment(folder, "ad2", miniature=True)

    return once("submission_of_ad2", make)


@pytest.fixture
def checkout(finished, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "checkout"))


def submit(folder: Path, *arguments: str, experiment: str = "ad2") -> str:
    """Runs the command on miniatures; returns its line, or raises its error."""
    with chdir(folder):
        done = CliRunner().invoke(app, ["submission", experiment, "--config", '{"miniature": true}', *arguments])
    if done.exception:
        raise done.exception
    return done.output


@pytest.mark.slow
def test_the_folder_has_all_that_the_server_takes(checkout):
    printed = submit(checkout)
    assert "submission: 48 maps and as many masks of 8 categories, checked; it is of a miniature" in printed
    root = checkout / "submission"
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert files == sorted(
        f"{top}/{category}/{name}/{number:03}_{light}.{ending}"
        for top, ending in ((MAPS, "tiff"), (MASKS, "png"))
        for category in READER.categories
        for name, light in zip(PRIVATE, ("regular", "mixed"), strict=True)
        for number in range(3)
    )
    for path in root.glob(f"{MAPS}/*/*/*.tiff"):
        values = tifffile.imread(path)
        mask = np.asarray(Image.open(root / MASKS / path.relative_to(root / MAPS).with_suffix(".png")))
        assert values.dtype == np.float16
        assert values.ndim == 2
        assert values.shape == mask.shape
        assert set(np.unique(mask)) <= {0, 255}
        sure = np.abs(values.astype(float) - 3) > 0.01  # float16 rounds near the threshold
        assert ((mask == 255) == (values > 3))[sure].all()


@pytest.mark.slow
def test_maps_are_those_of_the_model(checkout):
    submit(checkout, "--output", "out", "--sigmas", "1.5")
    (run,) = (checkout / "results/miniature/runs/one-class/mvtec_ad_2/sheet_metal").rglob("run.json")
    with chdir(checkout):
        model = load_model(run, torch.device("cpu"))
        entries = read_manifest(model.record.data.manifest)
        entry = next(entry for entry in entries if entry.defect == "test_private_mixed")
        square = Image.open(entry.image).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    score_map = resize_map(model.locate([square], nfa=False).maps[0], entry.height, entry.width)
    pixels = model.thresholds.pixels
    expected = (score_map.astype(float) - pixels.mean) / pixels.std
    name = f"sheet_metal/test_private_mixed/{Path(entry.image).stem}"
    found = tifffile.imread(checkout / f"out/{MAPS}/{name}.tiff")
    assert found.shape == (40, 160)
    np.testing.assert_allclose(found, expected, rtol=2**-10, atol=2**-10)
    mask = np.asarray(Image.open(checkout / f"out/{MASKS}/{name}.png"))
    assert ((mask == 255) == (expected > 1.5)).mean() > 0.999


@pytest.mark.slow
def test_private_images_are_in_no_record(finished):
    for path in (finished / "results/miniature/runs").rglob("scores.csv"):
        text = path.read_text()
        assert text.count("test_public") == 16
        assert "test_private" not in text


@pytest.mark.slow
def test_an_incomplete_submission_is_refused(checkout):
    with pytest.raises(NfbenchError, match=r"needs all 8 categories; .* lacks fabric, fruit_jelly, rice and 3 more"):
        submit(checkout, experiment="few")
    with pytest.raises(NfbenchError, match="is of one model, but '--select cflow' gives none"):
        submit(checkout, "--select", "cflow")
    (checkout / "there").mkdir()
    with pytest.raises(NfbenchError, match="there exists; choose another folder"):
        submit(checkout, "--output", "there")
    (record,) = (checkout / "results/miniature/runs/one-class/mvtec_ad_2/rice").rglob("run.json")
    record.unlink()
    with pytest.raises(NfbenchError, match=r"1 of 8 runs are not done, first one-class/mvtec_ad_2/rice/padim"):
        submit(checkout)
    assert not (checkout / "submission").exists()


@pytest.mark.slow
def test_nothing_appears_if_an_image_changes_on_the_way(checkout):
    (image,) = checkout.rglob("walnuts/test_private_mixed/002_mixed.png")
    content = io.BytesIO()
    Image.new("RGB", (72, 60)).save(content, "png")
    status = image.stat()
    image.write_bytes(content.getvalue().ljust(status.st_size, b"\0"))
    with pytest.raises(NfbenchError, match=r"002_mixed.png has changed since the manifest was written"):
        submit(checkout)
    assert not list(checkout.glob("*submission*"))


def entries(names, part="test_private") -> list[Entry]:
    return [Entry("unlabelled", -1, part, f"can/{part}/{name}.png", "", 4, 4, "0" * 64, "") for name in names]


def test_names_and_counts_are_the_servers():
    both = entries(["000_regular", "001_regular"]) + entries(["000_mixed", "001_mixed"], "test_private_mixed")
    check_images("can", both, 2)
    with pytest.raises(NfbenchError, match="can has 2 images in test_private, the server expects 321"):
        check_images("can", both, 321)
    with pytest.raises(NfbenchError, match="can has 1 images in test_private_mixed, the server expects 2"):
        check_images("can", both[:3], 2)
    with pytest.raises(NfbenchError, match=r"the server expects names such as 000_regular.png"):
        check_images("can", entries(["000_mixed", "001_regular"]), 2)


@given(arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-1e9, 1e9)))
def test_tiff_holds_the_nearest_finite_float16_without_compression(values):
    content, expected = encode_tiff(values), np.clip(values, -65504, 65504).astype("<f2")
    found = tifffile.imread(io.BytesIO(content))
    assert found.dtype == np.float16
    assert found.shape == values.shape
    assert np.isfinite(found).all()
    assert (found == expected).all()
    assert expected.tobytes() in content


def good(folder: Path) -> dict[str, tuple[int, int]]:
    """A submission of one image."""
    (folder / "maps").mkdir(parents=True)
    (folder / "maps/a.tiff").write_bytes(encode_tiff(np.ones((3, 5))))
    Image.fromarray(np.uint8([[0, 255]])).save(folder / "maps/a.png")
    return {"maps/a.tiff": (3, 5), "maps/a.png": (1, 2)}


def spoil_size(folder):
    (folder / "maps/a.tiff").write_bytes(encode_tiff(np.ones((5, 3))))


def spoil_type(folder):
    tifffile.imwrite(folder / "maps/a.tiff", np.ones((3, 5), np.float32))


def spoil_value(folder):
    (folder / "maps/a.tiff").write_bytes(encode_tiff(np.full((3, 5), np.nan)))


def spoil_mask(folder):
    Image.fromarray(np.uint8([[0, 1]])).save(folder / "maps/a.png")


def spoil_mask_size(folder):
    Image.fromarray(np.uint8([[0], [255]])).save(folder / "maps/a.png")


def spoil_mask_format(folder):
    Image.fromarray(np.uint8([[0, 255]])).save(folder / "maps/a.png", format="bmp")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "maps/a.tiff").unlink(), "is incomplete: 1 files are missing, first maps/a.tiff"),
        (lambda folder: (folder / "notes.txt").touch(), "files that the server does not take, first notes.txt"),
        (spoil_size, r"a.tiff is float16 of 3 x 5 pixels, expected float16 of 5 x 3"),
        (spoil_type, r"a.tiff is float32 of 5 x 3 pixels, expected float16 of 5 x 3"),
        (lambda folder: (folder / "maps/a.tiff").write_bytes(b"no"), "a.tiff is not a readable TIFF file"),
        (lambda folder: os.truncate(folder / "maps/a.tiff", 230), "a.tiff is not a readable TIFF file"),
        (spoil_value, "a.tiff has values that are not finite"),
        (spoil_mask, "a.png has values other than 0 and 255"),
        (spoil_mask_format, "a.png is not a readable PNG file: it has another format"),
        (spoil_mask_size, r"a.png is L of 1 x 2 pixels, expected grey of 2 x 1"),
        (lambda folder: (folder / "maps/a.png").write_bytes(b"no"), "a.png is not a readable PNG file"),
    ],
)
def test_faults_of_a_submission_are_named(tmp_path, spoil, message):
    expected = good(tmp_path)
    check_submission(tmp_path, expected)
    spoil(tmp_path)
    with pytest.raises(NfbenchError, match=message):
        check_submission(tmp_path, expected)
