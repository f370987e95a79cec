"""The detector for notebooks: the same numbers as the stages for every method, and all kinds of image input."""

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench import Detector
from nfbench.blocks.method import PACKAGE, resolve_settings
from nfbench.blocks.settings import epochs_of
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.datasets._manifest import build_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.batches import of_class
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import extract_features
from nfbench.plan.cells import Cell
from nfbench.scoring.gradients import GradientMaps
from nfbench.scoring.maps import score_images
from nfbench.training.assemble import Images
from nfbench.training.fit import fit, seed_of
from tests.tiny_models import ALWAYS_ANOMALIES, NO_ANOMALIES, OWN_BACKBONES, tiny_of

CPU = torch.device("cpu")
LITE = {"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random"}
SCALED = {**LITE, "input_size": 128, "levels": (3,), "scales": (1, 2, 4)}
SMALL = {"fastflow": {"epochs": 2, "flow_steps": 2, "batch_size": 3}}


def settings_of(name):
    """The tiny model, trained for one epoch; of methods that learn from anomalies, the variant without."""
    own = resolve_settings(name)
    given = {**plugin(PACKAGE, name).METHOD.tiny.settings, **NO_ANOMALIES.get(name, {})}
    return {**given, **({"epochs": 1, "batch_size": 3, "val_fraction": 0.2} if epochs_of(own) else {})}


def detector_of(name, seed=0):
    """On a backbone that the method takes."""
    method = plugin(PACKAGE, name).METHOD
    usual = {**LITE, "image": method.takes_image} if method.takes_levels else {"name": "image", "input_size": 64}
    first = method.tiny.backbone or OWN_BACKBONES.get(name, usual)
    try:
        return Detector(name, first, settings=settings_of(name), seed=seed, device="cpu")
    except NfbenchError:
        return Detector(name, SCALED, settings=settings_of(name), seed=seed, device="cpu")


@pytest.fixture
def entries(image_folder):
    return build_manifest(DATASET.samples(image_folder, "part"))


def cached(entries, view, backbone, folder):
    chosen = [entry for entry in entries if entry.split == view]
    extract_features(chosen, backbone, folder / view / "meta.json", view=view, device=CPU)
    return FeatureCache(folder / view / "meta.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in plugin_names(PACKAGE) if name not in ALWAYS_ANOMALIES])
def test_scores_are_those_of_the_stages(name, entries, tmp_path):
    cell = Cell("one-class", "own", "part", name, "tag", 3)
    detector = detector_of(name, seed_of(cell))
    backbone: BackboneConfig = detector.recipe.backbone
    train, test = (cached(entries, view, backbone, tmp_path) for view in ("train", "test"))
    fitted = fit(cell, name, detector.settings, [Images(entries, train)], CPU, tmp_path / "run", "origin")
    model, shown = fitted.model, [entry for entry in entries if entry.split == "test"]
    features = of_class(test.features, 0) if model.takes_class else test.features
    localize = GradientMaps(model, shown, test.meta.recipe, CPU) if model.gradient_maps else None
    expected = score_images(model, features, CPU, localize=localize)

    paths = {view: [entry.image for entry in entries if entry.split == view] for view in ("train", "test")}
    found = detector.fit(paths["train"]).score(paths["test"])
    for key, value in model.state_dict().items():
        assert torch.equal(detector.model.state_dict()[key], value), key
    np.testing.assert_array_equal(found.images, expected.images["paper"])
    np.testing.assert_array_equal(found.maps, expected.maps)


@pytest.mark.parametrize("name", ["fastflow", "differnet", "padim", "patchcore"])
def test_tiles_are_cut_and_merged(name, arrays):
    """Images that fit into a tile have the scores of no tiles, and maps of tiles are merged; one has gradient maps."""
    method = detector_of(name)
    config, many = method.recipe.backbone.model_dump(), [*arrays[:4]]

    def scored(tiles):
        detector = Detector(name, {**config, "tiles": tiles}, settings=settings_of(name), device="cpu")
        return detector.fit(many).score(many[:2])

    whole, one = scored(None), scored({"size": 60, "overlap": 9})
    for found, expected in zip(one, whole, strict=True):
        np.testing.assert_array_equal(found, expected)
    side = config["input_size"]
    cut = scored({"size": 40, "overlap": 8})  # 2 x 2 tiles of images of 50 x 60
    assert cut.maps.shape == (2, round(50 * side / 40), round(60 * side / 40))
    assert np.isfinite(cut.images).all()


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (7, 50, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def fitted(arrays):
    return Detector("fastflow", LITE, settings=SMALL["fastflow"], device="cpu").fit(arrays)


def test_all_forms_of_images_give_the_same_scores(fitted, arrays, tmp_path):
    (tmp_path / "inner").mkdir()
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / ("inner" if number > 4 else "") / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    paths = [*sorted(tmp_path.glob("*.png")), *sorted(tmp_path.glob("inner/*.png"))]
    forms = [arrays, list(arrays), [Image.fromarray(array) for array in arrays], paths, map(str, paths), tmp_path]
    found = [fitted.score(form) for form in forms]
    for other in found[1:]:
        np.testing.assert_array_equal(other.images, found[0].images)
        np.testing.assert_array_equal(other.maps, found[0].maps)
    one = fitted.score(arrays[2])
    np.testing.assert_array_equal(one.images, fitted.score(paths[2]).images)
    assert one.maps.shape == (1, 64, 64)


def test_grey_images_are_taken(fitted, arrays):
    grey = arrays[..., 0]
    as_colour = np.repeat(grey[..., None], 3, axis=3)
    np.testing.assert_array_equal(fitted.score(grey).images, fitted.score(as_colour).images)


def test_many_images_are_scored_in_parts(fitted, arrays):
    many = np.concatenate([arrays] * 19)[:130]
    scores = fitted.score(many)
    assert scores.maps.shape == (130, 64, 64)
    np.testing.assert_allclose(scores.images, np.tile(fitted.score(arrays).images, 19)[:130], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("fastflo", LITE), {}, "unknown method 'fastflo'; did you mean 'fastflow'"),
        (("fastflow", "resnet18"), {}, r"unknown backbone 'resnet18'; did you mean"),
        (("fastflow", {**LITE, "size": 64}), {}, "'size'"),
        (("fastflow", LITE), {"settings": {"epoch": 1}}, "setting 'epoch' of method 'fastflow'"),
        (("fastflow", {"name": "image"}), {}, "method 'FastFlow' reads levels, but its backbone has none"),
        (("sanflow", {**LITE, "image": True}), {}, "method 'SANFlow' with these settings learns from anomalies"),
        (("devnet", tiny_of("devnet").backbone), {}, "method 'DevNet' with these settings learns from anomalies"),
        (("devnet", LITE), {}, "method 'DevNet' trains the backbone; give it a backbone with 'frozen: false'"),
        (("fastflow", LITE), {"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, options, message):
    with pytest.raises(NfbenchError, match=message) as error:
        Detector(*arguments, **{"device": "cpu", **options})
    assert "\n" not in str(error.value)


def test_wrong_images_are_one_line(fitted, arrays, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    wrong = [
        (arrays / 255, "image 0: expected a uint8 array"),
        (np.zeros((2, 8, 8, 4), np.uint8), "image 0: expected a uint8 array"),
        ([], "no image was given"),
        (tmp_path / "empty", "no image in"),
        (tmp_path / "absent.png", "absent.png"),
        (tmp_path, "broken.png"),
    ]
    for images, message in wrong:
        with pytest.raises(NfbenchError, match=message):
            fitted.score(images)
    with pytest.raises(NfbenchError, match="this detector is not trained; call 'fit'"):
        Detector("padim", LITE, device="cpu").score(arrays)


def test_the_door_is_opened_when_it_is_asked_for():
    import subprocess
    import sys

    script = "import sys, nfbench; assert 'torch' not in sys.modules; nfbench.Detector; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
