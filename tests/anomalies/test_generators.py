"""Synthetic anomalies change an image only at their mask, in the requested size, and depend only on the seed."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from pydantic import ValidationError
from scipy import ndimage
from torch.nn import functional

from nfbench.anomalies import blend
from nfbench.anomalies._base import PACKAGE, Synthetic, find_generator, jitter_colors
from nfbench.anomalies.cutpaste import draw_patch_shape
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin_names
from nfbench.datasets._manifest import build_manifest, read_image, write_manifest
from nfbench.datasets.mvtec_ad import DATASET

pytestmark = pytest.mark.slow

NAMES = plugin_names(PACKAGE)
OF_NORMALS = [name for name in NAMES if not find_generator(name).needs_real]
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def square(entry, size: int) -> np.ndarray:
    return np.array(read_image(entry.image).resize((size, size), Image.Resampling.BILINEAR))


def same(first: Synthetic, second: Synthetic) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def find_image(made: Synthetic, entries) -> np.ndarray:
    """The normal image that equals the variant at the most pixels."""
    images = [square(entry, len(made.image)) for entry in entries]
    return max(images, key=lambda image: (image == made.image).mean())


def test_all_generators_are_known():
    assert NAMES == ["blend", "cutpaste", "rpag"]
    with pytest.raises(NfbenchError, match="unknown anomaly 'blent'; did you mean 'blend'"):
        find_generator("blent")


@pytest.mark.parametrize("name", NAMES)
@given(size=st.integers(32, 320), seed=st.integers(0, 2**63 - 1), index=st.integers(0, 4))
@QUICK
def test_variants_have_the_promised_form(name, size, seed, index, normals, anomalies):
    generator = find_generator(name)(normals, anomalies, size)
    made = generator(index, seed)
    assert made.image.shape == (size, size, 3)
    assert made.mask.shape == (size, size)
    assert made.image.dtype == made.mask.dtype == np.uint8
    assert same(made, generator(index, seed))
    made.image[:] = 0  # what is returned belongs to the caller


@pytest.mark.parametrize("name", OF_NORMALS)
@given(size=st.integers(32, 320), seed=st.integers(0, 2**63 - 1), index=st.integers(0, 4))
@QUICK
def test_images_change_below_their_mask_alone(name, size, seed, index, normals):
    made = find_generator(name)(normals, [], size)(index, seed)
    changed = (made.image != square(normals[index], size)).any(axis=2)
    assert not (changed & (made.mask == 0)).any()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_and_images_make_a_difference(name, normals, anomalies):
    generator = find_generator(name)(normals, anomalies, 64)
    made = [generator(index, seed) for index in range(2) for seed in range(12)]
    distinct = {one.image.tobytes() + one.mask.tobytes() for one in made}
    clean = sum(not one.mask.any() for one in made)
    assert len(distinct) >= (15 if name == "rpag" else 24 - clean)  # its operations often leave things as they are
    assert clean == 0 or name == "blend"


@pytest.mark.parametrize("name", NAMES)
def test_threads_do_not_change_results(name, normals, anomalies):
    generator = find_generator(name)(normals, anomalies, 64)
    calls = [(index, seed) for index in range(4) for seed in range(15)]
    expected = [generator(*call) for call in calls]
    fresh = find_generator(name)(normals, anomalies, 64)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda call: fresh(*call), reversed(calls)))
    assert all(same(*pair) for pair in zip(expected, reversed(found), strict=True))


OF_TEN_VARIANTS = """
import hashlib, sys
from nfbench.anomalies._base import find_generator
from nfbench.datasets._manifest import read_manifest
entries = read_manifest(sys.argv[2])
parts = [e for e in entries if e.split == "train"], [e for e in entries if e.label], 48
generator = find_generator(sys.argv[1])(*parts)
made = [generator(i % 4, i) for i in range(10)]
print(hashlib.sha256(b"".join(m.image.tobytes() + m.mask.tobytes() for m in made)).hexdigest())
"""
OTHER_STATE = "import os, random, numpy; random.seed(os.urandom(8)); numpy.random.seed(ord(os.urandom(1)))"


@pytest.mark.parametrize("name", NAMES)
def test_processes_do_not_change_results(name, part, tmp_path, monkeypatch, capsys):
    """A new process, with another random state, makes the same variants as this one."""
    write_manifest(tmp_path / "manifest.csv", part)
    arguments = [name, str(tmp_path / "manifest.csv")]
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    exec(OF_TEN_VARIANTS, {})
    command = [sys.executable, "-c", OTHER_STATE + OF_TEN_VARIANTS, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == capsys.readouterr().out != ""


@pytest.mark.parametrize("name", NAMES)
def test_changed_images_are_refused(name, normals, anomalies):
    stale = [replace(entry, sha256="0") for entry in normals]
    generator = find_generator(name)(stale, anomalies, 64)
    with pytest.raises(NfbenchError, match="has changed since the manifest was written"):
        generator(0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_arguments_are_refused(name, normals, anomalies):
    kind = find_generator(name)
    with pytest.raises(NfbenchError, match="no normal image"):
        kind([], anomalies, 64)
    with pytest.raises(NfbenchError, match="31 pixels are too small; use at least 32"):
        kind(normals, anomalies, 31)
    generator = kind(normals, anomalies, 64)
    assert len(generator) == len(anomalies if kind.needs_real else normals)
    for index in (-1, len(generator)):
        with pytest.raises(IndexError, match=f"no image {index} among {len(generator)}"):
            generator(index, 0)


@pytest.fixture(scope="module")
def blends(normals) -> tuple[list[Synthetic], list[str]]:
    """Variants at 64 pixels by seed, and which kinds of soft masks were drawn for them."""
    drawn: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_circle", "draw_rectangle"):
            draw = getattr(blend, name)
            patch.setattr(blend, name, lambda rng, name=name, draw=draw: (drawn.append(name), draw(rng))[1])
        generator = blend.GENERATOR(normals, [], 64)
        return [generator(seed % len(normals), seed) for seed in range(800)], drawn


def test_blend_cases_are_equally_frequent(blends):
    made, drawn = blends
    counts = {
        "clean": sum(not one.mask.any() for one in made),
        "scar": sum(one.mask.any() and set(np.unique(one.mask)) <= {0, 255} for one in made),
        "circle": drawn.count("draw_circle"),
        "rectangle": drawn.count("draw_rectangle"),
    }
    assert sum(counts.values()) == len(made)
    assert all(abs(count / len(made) - 0.25) < 0.06 for count in counts.values())  # four standard deviations


def test_clean_images_are_untouched(blends, normals):
    for seed, made in enumerate(blends[0][:100]):
        if not made.mask.any():
            assert np.array_equal(made.image, square(normals[seed % len(normals)], 64))


def test_blends_have_soft_edges_and_change_the_image(blends, normals):
    soft = [(seed, made) for seed, made in enumerate(blends[0]) if len(np.unique(made.mask)) > 2]
    for seed, made in soft[:100]:
        assert made.mask.min() > 0 or made.mask.max() > 200
        assert ((made.mask > 0) & (made.mask < 255)).mean() < 0.2
        changed = (made.image != square(normals[seed % len(normals)], 64)).any(axis=2)
        assert changed[made.mask > 128].mean() > 0.5


def test_blends_mix_by_the_mask(normals, monkeypatch):
    """Against the formula with a donor of one colour, at the size that masks are drawn in: their blur alone is soft."""
    monkeypatch.setattr(blend.GENERATOR, "_donor", lambda self, rng: Image.new("RGB", (128, 128), (200, 0, 100)))
    generator = blend.GENERATOR(normals, [], 128)
    checked = 0
    for seed in range(40):
        made = generator(1, seed)
        if len(np.unique(made.mask)) > 2:
            weight = made.mask[..., None] / 255
            expected = (1 - weight) * square(normals[1], 128) + weight * np.array([200, 0, 100])
            assert np.abs(made.image - expected).max() <= 0.51
            checked += 1
    assert checked > 10


def test_circles_have_the_stated_size():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        radius, (x, y) = rng.uniform(10, 15), rng.uniform(10, 118, 2)
        expected = [[(row - y) ** 2 + (column - x) ** 2 <= radius**2 for column in range(128)] for row in range(128)]
        mask = np.array(blend.draw_circle(np.random.default_rng(seed)))
        np.testing.assert_array_equal(mask, 255 * np.array(expected, dtype=np.uint8))
        if radius < min(x, y) and max(x, y) < 127 - radius:
            assert mask.astype(bool).sum() == pytest.approx(np.pi * radius**2, rel=0.04)


@pytest.mark.parametrize("size", [256, 320])
def test_masks_of_blends_are_enlarged_bicubically(normals, monkeypatch, size):
    """Against torch, whose bicubic filter with antialiasing is Pillow's."""
    drawn = ndimage.gaussian_filter(np.pad(np.full((60, 40), 255.0), ((30, 38), (50, 38))), 1).astype(np.uint8)
    monkeypatch.setattr(blend, "_flip", lambda image, rng: image)
    generator = blend.GENERATOR(normals, [], size)
    blurred = Image.fromarray(drawn).filter(ImageFilter.BLUR)
    made = generator._blend(generator.read_normal(0), lambda rng: Image.fromarray(drawn), np.random.default_rng(0))
    enlarged = functional.interpolate(
        torch.from_numpy(np.array(blurred, np.float32))[None, None], (size, size), mode="bicubic", antialias=True
    )
    assert np.abs(made.mask - enlarged[0, 0].clamp(0, 255).numpy()).max() < 1.1


def test_rectangles_have_the_stated_sides():
    rng = np.random.default_rng(0)
    for _ in range(300):
        points = np.argwhere(np.array(blend.draw_rectangle(rng)) > 0)
        spread = np.sqrt(12 * np.linalg.eigvalsh(np.cov(points.T)))  # of a rectangle: its two sides
        assert 6.5 <= spread[0] <= 24
        assert 30 <= spread[1] <= 129
        assert len(points) == pytest.approx(spread.prod(), rel=0.1)


def test_as_many_rectangles_are_drawn_again_as_fail_in_the_original(monkeypatch):
    turns, rotate = [], Image.Image.rotate
    monkeypatch.setattr(Image.Image, "rotate", lambda *args, **kwargs: (turns.append(1), rotate(*args, **kwargs))[1])
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        blend.draw_rectangle(rng)
    assert 0.0015 < len(turns) / 20_000 - 1 < 0.0042  # 0.28 %, give or take three standard deviations


@given(size=st.integers(32, 320), seed=st.integers(0, 2**32))
def test_scars_have_the_stated_sides(size, seed):
    (width, height), angle, alpha = blend.draw_scar_mask(size, np.random.default_rng(seed))
    assert max(1, size // 64) <= width <= size // 8
    assert max(1, size // 128) <= height <= size // 16
    assert -45 <= angle <= 45
    mask = np.array(alpha)
    assert set(np.unique(mask)) <= {0, 255}
    assert (mask > 0).sum() == pytest.approx(width * height, rel=0.5, abs=6)


def test_scars_at_256_pixels_use_the_whole_range():
    rng = np.random.default_rng(0)
    shapes = np.array([blend.draw_scar_mask(256, rng)[0] for _ in range(2000)])
    assert shapes.min(axis=0).tolist() == [4, 2]
    assert shapes.max(axis=0).tolist() == [32, 16]


def test_the_strength_of_jitter_is_one_for_each_category(normals):
    strengths = [blend.GENERATOR(some, [], 64).jitter for some in (normals, normals[::-1], normals[:3])]
    assert strengths[0] == strengths[1] != strengths[2]
    assert all(0 <= strength < 0.2 for strength in strengths)


def test_cutpaste_pastes_one_rectangle(normals):
    generator = find_generator("cutpaste")(normals, [], 200)
    for seed in range(60):
        mask = generator(0, seed).mask
        found = ndimage.find_objects((mask > 0).astype(int))[0]
        assert (mask[found] == 255).all()
        assert mask[found].size == (mask > 0).sum()


@given(size=st.integers(32, 320), seed=st.integers(0, 2**32))
def test_cutpaste_patches_have_the_stated_area_and_aspect(size, seed):
    width, height = draw_patch_shape(size, np.random.default_rng(seed))
    assert max(width, height) <= size
    assert (width - 0.5) * (height - 0.5) <= 0.15 * size**2
    assert (width + 0.5) * (height + 0.5) >= 0.02 * size**2
    assert (width - 0.5) / (height + 0.5) <= 3.3
    assert (width + 0.5) / (height - 0.5) >= 0.3


def test_jitter_of_no_strength_changes_nothing_and_more_changes_more(normals):
    image = read_image(normals[0].image)
    rng = np.random.default_rng(0)
    assert np.array_equal(jitter_colors(image, 0, rng), image)
    means = [
        np.mean([np.abs(np.array(jitter_colors(image, s, rng), float) - np.array(image)).mean() for _ in range(30)])
        for s in (0.02, 0.1, 0.4)
    ]
    assert 0 < means[0] < means[1] < means[2]
    assert means[0] < 8


@pytest.mark.parametrize("factor", [-0.2, -0.0999, -0.003, 0.003, 0.0999, 0.2])
def test_hue_is_shifted_as_torchvision_does_it(normals, factor):
    """Its formula: the shift times 255, cut off to an integer, is added to Pillow's bytes of hue, which wrap."""
    image = read_image(normals[0].image)
    rng = SimpleNamespace(
        uniform=lambda low, high, *shape: np.ones(*shape) if shape else factor, permutation=lambda count: [3]
    )
    hue, saturation, value = (np.array(band) for band in image.convert("HSV").split())
    with np.errstate(over="ignore"):
        hue = hue + np.array(factor * 255).astype(np.int32).astype(np.uint8)
    expected = Image.merge("HSV", [Image.fromarray(band) for band in (hue, saturation, value)]).convert("RGB")
    np.testing.assert_array_equal(jitter_colors(image, 0.2, rng), expected)


@pytest.mark.parametrize("name", NAMES)
def test_contact_sheet_shows_every_variant(name, normals, anomalies):
    from nfbench.figures.anomalies import contact_sheet

    asked = []
    generator = find_generator(name)(normals, anomalies, 40)
    figure = contact_sheet(generator, 3, 4, lambda index, view: asked.append((index, view)) or 10 * index + view)
    assert len(figure.axes) == 12
    assert len(set(asked)) == 12
    assert figure.get_suptitle() == generator.title
    assert len(contact_sheet(generator, 50, 1, lambda index, view: index).axes) == len(generator)


@pytest.mark.parametrize("name", OF_NORMALS)
@pytest.mark.parametrize("category", ["bottle", "transistor"])
def test_real_images_change_below_their_mask_alone(mvtec_root, name, category):
    samples = DATASET.samples(mvtec_root, category)
    normals = [entry for entry in build_manifest([*samples[:20], samples[-1]]) if entry.split == "train"]
    generator = find_generator(name)(normals, [], 256)
    for index in range(12):
        made = generator(index, index)
        changed = (made.image != square(normals[index], 256)).any(axis=2)
        assert not (changed & (made.mask == 0)).any()
        assert not made.mask.any() or changed.any()


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_knows_a_generator_by_its_file(name):
    needs_real = find_generator(name).needs_real
    config = AnomaliesConfig(generator=name, real=3, views=4)
    assert config.needs_real == needs_real
    view = config.view(seed=2)
    found, seed = AnomaliesConfig.of_view(view)
    assert (found.view(seed), seed) == (view, 2 if needs_real else 0)
    if needs_real:
        with pytest.raises(ValidationError, match=f"generator {name} needs real anomalies; set 'real'"):
            AnomaliesConfig(generator=name)
    else:
        assert AnomaliesConfig(generator=name).real == 0


def test_an_unknown_generator_is_named_with_the_nearest_one():
    with pytest.raises(ValidationError, match="unknown generator 'blent'; did you mean 'blend'"):
        AnomaliesConfig(generator="blent")
