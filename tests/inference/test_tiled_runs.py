"""Runs on tiles through all stages: scores, thresholds and predictions are those of whole images."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nfbench.cli.load import load_plan
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest
from nfbench.features.cache import FeatureCache
from nfbench.inference.decisions import Decisions
from nfbench.inference.demo import Demo
from nfbench.inference.export import export_model
from nfbench.inference.images import Given
from nfbench.inference.load import load_model
from nfbench.inference.package import pack
from nfbench.inference.predict import predict
from nfbench.inference.submission import _maps
from nfbench.plan.supposed import count_images, images_of_view
from nfbench.results.files import ImageScore, read_rows
from nfbench.results.record import read_record
from nfbench.results.sizes import features_size
from nfbench.scoring.maps import resize_map, score_images
from nfbench.search.objective import Judged, measure
from tests.in_process import run_experiment
from tests.workflow.conftest import Checkout

CPU = torch.device("cpu")
LITE = {"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random", "levels": [2, 3]}
METHODS = {
    "fastflow": {"flow_steps": 2, "epochs": 1, "batch_size": 4, "val_fraction": 0.3},
    "padim": {"reduced_dimensions": 8, "folds": 3},
    "patchcore": {"coreset_ratio": 0.05, "folds": 3},
}
TILES = {"size": 128, "overlap": 32, "blend": "hann"}
N_TRAIN, N_TEST, PER_IMAGE = 7, 6, 9


@pytest.fixture(scope="module")
def folder(once):
    return once("tiled_runs", make_runs)


def make_runs(folder):
    Checkout(folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "save_maps": True, "keep_features": True}))
    experiment = {
        "title": "Tiles",
        "keep_models": "last",
        "datasets": {
            "synthetic-tiled": {
                "dataset": "synthetic", "max_train": N_TRAIN, "max_test_normal": 2, "max_test_anomalous": 4,
            }
        },
        "variants": {f"tiled-{name}": {"method": name, "settings": given} for name, given in METHODS.items()},
        "grid": [
            {
                "methods": [f"tiled-{name}" for name in METHODS],
                "backbones": [{**LITE, "tiles": TILES}],
                "datasets": {"synthetic-tiled": ["washer"]},
            }
        ],
        "tables": {"tiled_auroc": {"title": "Tiles", "metric": "image_auroc"}},
        "figures": {"tiled_maps": {"kind": "maps"}},
    }  # fmt: skip
    (folder / "workflow/experiments/tiled.yaml").write_text(yaml.safe_dump(experiment))
    run_experiment(folder, "tiled")


def run_of(folder, method):
    (found,) = folder.glob(f"results/runs/*/synthetic-tiled/washer/tiled-{method}/*-l23-t128.32.hann-random/seed0")
    return found


def scores_of(run):
    """Scores by the method's rule and by the maximum of the map."""
    return {row.image: (np.float32(row.paper), np.float32(row.max)) for row in read_rows(ImageScore, run)}


@pytest.mark.parametrize("method", METHODS)
def test_maps_scores_and_thresholds_are_those_of_images(folder, method):
    run = run_of(folder, method)
    maps, record, scores = np.load(run / "maps.npy"), read_record(run / "run.json"), scores_of(run)
    assert maps.shape == (N_TEST, 128, 128)  # 256 pixels of the image, as fine as 64 of a tile of 128
    assert [largest for _, largest in scores.values()] == maps.reshape(N_TEST, -1).max(1).tolist()
    assert (record.data.n_train, record.data.n_val) == ((5, 2) if method == "fastflow" else (N_TRAIN, 0))
    if method != "patchcore":  # which scores images by its patches, not by its map
        assert all(paper == largest for paper, largest in scores.values())
    model = load_model(run, CPU)
    images = model.thresholds.images
    assert len(images) == (2 if method == "fastflow" else N_TRAIN)
    assert len({one.image for one in images}) == len(images)
    assert model.thresholds.pixels.size == (128, 128)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_equal_the_evaluation_bit_for_bit(folder, method):
    run = run_of(folder, method)
    known, maps = scores_of(run), np.load(run / "maps.npy")
    with chdir(folder):
        package = pack(run, folder / f"{method}.nfbench", weights=True)
        for source in (run, package):
            model = load_model(source, CPU)
            decisions = Decisions.of(model.thresholds, "sigma")
            asked = [Given(image, "name.png") for image in reversed(known)]
            for batch_size in (16, 2):
                found = list(predict(model, decisions, asked, batch_size))[::-1]
                assert [np.float32(one.score) for one in found] == [paper for paper, _ in known.values()]
                for one, score_map in zip(found, maps, strict=True):
                    np.testing.assert_array_equal(one.score_map, resize_map(score_map, 256, 256))


def test_scores_of_known_normal_images_are_those_of_the_model(folder):
    model = load_model(run_of(folder, "fastflow"), CPU)
    with chdir(folder):
        found = list(predict(model, Decisions.of(model.thresholds, "sigma"), [
            Given(one.image, "name.png") for one in model.thresholds.images
        ]))  # fmt: skip
    assert [np.float32(one.score) for one in found] == model.thresholds.scores.tolist()
    assert [one.score_map.shape for one in found] == [(256, 256)] * 2


def test_images_of_another_size_have_maps_of_their_size(folder, tmp_path):
    run = run_of(folder, "padim")
    with chdir(folder):
        model = load_model(run, CPU)
        picture = Image.open(next(iter(scores_of(run)))).resize((500, 130))
        picture.save(tmp_path / "wide.png")
        (found,) = predict(model, Decisions.of(model.thresholds, "sigma"), [Given(str(tmp_path / "wide.png"), "w.png")])
    assert found.score_map.shape == (130, 500)
    assert np.float32(found.score) == model.score([picture]).maps.max()


def test_the_page_shows_the_same_and_has_no_false_alarms_of_tiles(folder, tmp_path):
    run = run_of(folder, "fastflow")
    with chdir(folder):
        model = load_model(run, CPU)
        demo = Demo(model, tmp_path, "tiles")
        image, (paper, _) = next(iter(scores_of(run).items()))
        with open(image, "rb") as file:
            found = demo.decision(demo.add(file.read()), "sigma", 0.05, 3.0)
    assert np.float32(found["score"]) == paper
    assert "nfa" not in demo.rules
    with chdir(folder), pytest.raises(NfbenchError, match="is scored in tiles, which have no white latents"):
        model.locate([Image.new("RGB", (300, 300))], nfa=True)


def test_a_submission_and_a_search_have_the_same_maps(folder):
    run = run_of(folder, "padim")
    record, maps = read_record(run / "run.json"), np.load(run / "maps.npy")
    with chdir(folder):
        model, entries = load_model(run, CPU), read_manifest(record.data.manifest)
        tested = [entry for entry in entries if entry.split == "test"]
        submitted = [score_map for _, score_map in _maps(model, tested)]
        specs = {spec.view: FeatureCache(spec.features) for spec in record.specs.extract}
        judged = Judged.of(specs["test"], specs["train"], entries, tested)
        few = Judged.of(specs["test"], specs["train"], entries, tested[1::2])
        found = measure("pixel_auroc", model.method, judged, CPU)
        of_few = score_images(model.method, specs["test"].features.select(few.rows), CPU).maps
    np.testing.assert_array_equal(np.stack(submitted), maps)
    assert found == record.selections["last"].metrics["pixel_auroc"]
    np.testing.assert_array_equal(of_few, maps[1::2])


def test_an_exported_file_would_take_one_tile_and_is_refused(folder, tmp_path):
    with chdir(folder), pytest.raises(NfbenchError, match="takes one image of fixed size; use a package"):
        export_model(load_model(run_of(folder, "padim"), CPU), tmp_path / "model.pt2", "torch")


def test_a_row_of_a_cache_is_a_tile(folder):
    (path,) = folder.glob("results/features/*-t128.32.hann-random/synthetic-tiled/washer/train/meta.json")
    with chdir(folder):
        cache = FeatureCache(path)
        record = read_record(run_of(folder, "padim") / "run.json")
        train = [entry for entry in read_manifest(record.data.manifest) if entry.split == "train"]
    assert (len(cache), len(cache.features), cache.meta.n_rows) == (N_TRAIN, N_TRAIN * PER_IMAGE, N_TRAIN * PER_IMAGE)
    assert cache.meta.image_sizes == [(N_TRAIN, 256, 256)]
    assert len(train) == N_TRAIN


def test_the_plan_counts_tiles(folder):
    """Foreseen bytes are those of the features on disk, nine times those of whole images."""
    with chdir(folder):
        plan = load_plan()
        cell = next(cell for cell in plan.cells("tiled") if cell.method == "tiled-padim")
        images = count_images(plan.prepare(cell.dataset, cell.category).spec)
        jobs = {job.spec.view: job.spec for job in plan.evaluate(cell).chain() if job.stage == "extract_features"}
        assert set(jobs) == {"train", "test"}
        for spec in jobs.values():
            assert images.tiles(spec.backbone) == PER_IMAGE
            files = Path(spec.features).parent.glob("level*.npy")
            foreseen = features_size(spec, images_of_view(spec, images))
            assert foreseen == sum(np.load(path, mmap_mode="r").nbytes for path in files)
            whole = spec.model_copy(update={"backbone": BackboneConfig(**LITE)})
            assert foreseen == PER_IMAGE * features_size(whole, images_of_view(whole, images))
