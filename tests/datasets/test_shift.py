"""Shifts of images and masks: strengths, directions by hash, and a geometry that masks share."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from nfbench.datasets._manifest import (
    build_manifest,
    read_checked_image,
    read_checked_mask,
    read_manifest,
    view_entries,
    write_manifest,
)
from nfbench.datasets._shift import shift_image, shift_mask
from nfbench.datasets.folder import DATASET
from nfbench.features.forward import read_images
from tests.conftest import make_image_folder

HASHES = [f"{number:064x}" for number in range(12)]


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, (96, 120, 3)), (6, 6, 0))
    return Image.fromarray((128 + 30 * smooth / smooth.std()).clip(40, 215).astype(np.uint8))


def values(image):
    return np.asarray(image).astype(float)


def test_no_shift_is_the_image_itself(image):
    assert shift_image(image, "", HASHES[0]) is image


@pytest.mark.parametrize("shift", ["light0.5", "blur2", "noise20", "rotation10"])
def test_a_shift_follows_from_the_hash_alone(image, shift):
    first = values(shift_image(image, shift, HASHES[0]))
    assert np.array_equal(first, values(shift_image(image, shift, HASHES[0])))
    others = [values(shift_image(image, shift, other)) for other in HASHES[1:]]
    assert any(not np.array_equal(first, other) for other in others) == (not shift.startswith("blur"))


@pytest.mark.parametrize("stops", [0.25, 0.5])
def test_light_multiplies_by_a_power_of_two_in_both_directions(image, stops):
    found = {tuple(values(shift_image(image, f"light{stops:g}", sha)).ravel()) for sha in HASHES}
    expected = {tuple((values(image) * 2**sign).round().clip(0, 255).ravel()) for sign in (stops, -stops)}
    assert found == expected


def test_noise_has_the_stated_deviation_and_one_pattern_for_all_strengths():
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    weak, strong = (values(shift_image(grey, f"noise{sigma}", HASHES[0])) - 128 for sigma in (10, 20))
    assert abs(weak.mean()) < 0.1
    assert weak.std() == pytest.approx(10, abs=0.1)
    assert np.abs(strong - 2 * weak).max() <= 1.5  # both are rounded


def test_blur_is_gaussian_in_percent_of_the_shorter_side(image):
    found = values(shift_image(image, "blur2.5", HASHES[0]))
    expected = ndimage.gaussian_filter(values(image), (2.4, 2.4, 0), mode="nearest")
    inner = np.s_[12:-12, 12:-12]
    assert np.abs(found - expected)[inner].mean() < 0.5
    assert found.std() < values(image).std()


def test_rotation_turns_in_both_directions_about_the_centre_and_mirrors_the_border():
    marked = np.zeros((101, 101, 3), np.uint8)
    marked[50, 80:91] = 255
    angles = set()
    for sha in HASHES:
        turned = values(shift_image(Image.fromarray(marked), "rotation30", sha))[..., 0]
        y, x = ndimage.center_of_mass(turned)
        angles.add(round(np.degrees(np.arctan2(50 - y, x - 50))))
        assert np.hypot(y - 50, x - 50) == pytest.approx(35, abs=0.7)
    assert angles == {30, -30}
    white = Image.new("RGB", (90, 60), (255, 255, 255))
    assert values(shift_image(white, "rotation33", HASHES[0])).min() == 255  # no black corners


@pytest.mark.parametrize("sha", HASHES[:4])
def test_a_rotated_mask_is_where_its_image_shows_it(sha):
    """An image that shows its mask: half of the interpolated brightness is the nearest pixel of the mask."""
    rng = np.random.default_rng(1)
    mask = ndimage.gaussian_filter(rng.normal(0, 1, (80, 110)), 5) > 0.05
    shown = Image.fromarray(np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255)
    turned = values(shift_image(shown, "rotation15", sha))[..., 0] / 255
    found = shift_mask(mask, "rotation15", sha)
    assert found.shape == mask.shape
    assert found.dtype == bool
    sure = np.abs(turned - 0.5) > 0.45
    assert sure.mean() > 0.7
    assert np.array_equal(found[sure], turned[sure] > 0.5)
    moved = {shift_mask(mask, "rotation15", other).tobytes() for other in HASHES}
    assert len(moved) == 2
    assert mask.tobytes() not in moved


def test_a_rotated_mask_is_the_nearest_pixel_by_hand():
    mask = np.zeros((41, 41), bool)
    mask[5:12, 20:33] = True
    padded = np.pad(mask, 21, mode="symmetric")
    y, x = np.mgrid[: len(padded), : len(padded)] - (len(padded) - 1) / 2
    by_hand = set()
    for sign in (1, -1):
        turn = np.radians(20 * sign)
        source = np.stack([np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y])
        near = ndimage.map_coordinates(padded.astype(int), source + (len(padded) - 1) / 2, order=0) > 0
        by_hand.add(near[21:-21, 21:-21].tobytes())
    assert {shift_mask(mask, "rotation20", sha).tobytes() for sha in HASHES} == by_hand


@pytest.mark.parametrize("shift", ["", "light1", "blur2", "noise20"])
def test_other_shifts_leave_masks_as_they_are(shift):
    mask = np.eye(20, dtype=bool)
    assert shift_mask(mask, shift, HASHES[0]) is mask


def test_images_and_masks_of_a_shifted_view_are_read_shifted(tmp_path):
    folder = make_image_folder(tmp_path, "parts")
    entries = build_manifest(DATASET.samples(folder, "parts"))
    write_manifest(tmp_path / "parts.csv", view_entries(entries, "test-rotation10") + view_entries(entries, "train"))
    assert {entry.shift for entry in read_manifest(tmp_path / "parts.csv")} == {""}
    clean, turned = view_entries(entries, "test"), view_entries(entries, "test-rotation10")
    assert [entry.image for entry in turned] == [entry.image for entry in clean]
    for one, other in zip(clean, turned, strict=True):
        expected = shift_image(read_checked_image(one), "rotation10", one.sha256)
        assert np.array_equal(read_checked_image(other), expected)
        small = expected.resize((16, 16), Image.Resampling.BILINEAR)  # shifted first, resized then
        assert np.array_equal(read_images([other], 16)[0].movedim(0, -1).numpy(), small)
        if one.mask:
            assert np.array_equal(
                read_checked_mask(other), shift_mask(read_checked_mask(one), "rotation10", one.sha256)
            )
