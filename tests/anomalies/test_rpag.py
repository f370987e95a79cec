"""Real anomalies are pasted on the foreground of normal images and are never lost silently."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from nfbench.anomalies import rpag
from nfbench.anomalies._selection import choose_anomalies
from nfbench.anomalies.rpag import RealAnomalies, augment, paste_in_foreground
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import build_manifest, read_image
from nfbench.datasets.mvtec_ad import DATASET

pytestmark = pytest.mark.slow

RED, GREY = (250, 0, 0), 128


def marked(mask: np.ndarray) -> np.ndarray:
    """An image that is red below its mask and grey elsewhere."""
    return np.where(mask[..., None], np.array(RED, dtype=np.uint8), np.uint8(GREY))


def block(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def with_mask(entry, path, mask: np.ndarray):
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return replace(entry, mask=str(path), mask_sha256=file_sha256(path))


@pytest.mark.parametrize("seed", range(60))
def test_image_and_mask_move_together(seed):
    mask = block((90, 120), slice(20, 50), slice(30, 45)) | block((90, 120), slice(60, 70), slice(80, 110))
    image, moved = augment(marked(mask), mask, np.random.default_rng(seed))
    assert image.shape[:2] == moved.shape
    assert moved.shape in [(90, 120), (120, 90)]
    hue = np.ptp(image.astype(int), axis=2)  # colours and noise may change; what is red stays coloured
    inner, outer = ndimage.binary_erosion(moved, iterations=4), ndimage.binary_dilation(moved, iterations=4)
    if inner.any():
        assert np.median(hue[inner]) > 100
    assert np.median(hue[~outer]) < 60


def test_operations_draw_independently(monkeypatch):
    """Rotation, flip and transposition are drawn independently; one joint draw would leave half of them as is."""
    operations = rpag._operations
    monkeypatch.setattr(rpag, "_operations", lambda library: operations(library)[:3])
    mask = block((64, 64), slice(4, 20), slice(6, 12))
    moved = [augment(marked(mask), mask, np.random.default_rng(seed))[1] for seed in range(150)]
    assert len({one.tobytes() for one in moved}) == 8
    assert np.mean([np.array_equal(one, mask) for one in moved]) < 0.35


def test_an_operation_is_drawn_as_often_as_any_other(monkeypatch):
    drawn = []
    albumentations = rpag._albumentations()
    compose = albumentations.Compose
    monkeypatch.setattr(albumentations, "Compose", lambda chosen: (drawn.append(chosen), compose(chosen))[1])
    mask = block((32, 32), slice(4, 20), slice(6, 12))
    for seed in range(200):
        augment(marked(mask), mask, np.random.default_rng(seed))
    assert all(len({id(operation) for operation in chosen}) == 3 for chosen in drawn)
    kinds = [type(operation).__name__ for chosen in drawn for operation in chosen]
    assert abs(kinds.count("Transpose") / 200 - 0.3) < 0.13
    assert abs(kinds.count("OneOf") / 200 - 1.5) < 0.25  # five of the ten are groups


def test_a_mask_in_the_foreground_stays_in_place():
    mask = block((60, 80), slice(20, 30), slice(20, 35))
    normal = np.full((60, 80, 3), 7, dtype=np.uint8)
    for inside, stays in ((15, True), (11, True), (10, False), (0, False)):  # of 15 columns
        foreground = block((60, 80), slice(20, 40), slice(35 - inside, 75))
        pasted, where = paste_in_foreground(normal, marked(mask), mask, foreground, np.random.default_rng(3))
        assert np.array_equal(where, mask) == stays
        assert np.array_equal(pasted, np.where(where[..., None], np.array(RED, dtype=np.uint8), 7))
        assert (normal == 7).all()


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_pieces_move_to_the_foreground(seed):
    rng = np.random.default_rng(seed)
    mask = block((60, 80), slice(0, 6), slice(0, 9)) | block((60, 80), slice(50, 55), slice(70, 79))
    foreground = block((60, 80), slice(15, 45), slice(10, 75))
    normal = np.full((60, 80, 3), 7, dtype=np.uint8)
    pasted, where = paste_in_foreground(normal, marked(mask), mask, foreground, rng)
    assert np.array_equal((pasted == RED).all(axis=2), where)
    assert (pasted[~where] == 7).all()
    labels, count = ndimage.label(where, np.ones((3, 3)))
    assert 1 <= count <= 2
    if count == 2:
        assert sorted(np.bincount(labels.ravel())[1:]) == [45, 54]
        for row, column in ndimage.center_of_mass(where, labels, [1, 2]):
            assert 14.5 <= row < 45.5  # a pixel's centre, give or take half a pixel
            assert 9.5 <= column < 75.5


def test_pieces_keep_off_the_border_and_rings_keep_their_hole():
    ring = block((60, 60), slice(0, 21), slice(0, 21)) & ~block((60, 60), slice(5, 16), slice(5, 16))
    ring[10, 10] = True  # a piece inside of a piece goes with it
    foreground = ~block((60, 60), slice(0, 21), slice(0, 21))
    normal = np.zeros((60, 60, 3), dtype=np.uint8)
    for seed in range(50):
        _, where = paste_in_foreground(normal, marked(ring), ring, foreground, np.random.default_rng(seed))
        rows, columns = np.nonzero(where)
        cut = where[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.array_equal(cut, ring[:21, :21])


def test_a_foreground_at_the_border_loses_what_leaves_the_frame():
    mask = block((60, 60), slice(20, 41), slice(20, 41))
    foreground = block((60, 60), slice(0, 1), slice(0, 1))
    normal = np.zeros((60, 60, 3), dtype=np.uint8)
    _, where = paste_in_foreground(normal, marked(mask), mask, foreground, np.random.default_rng(0))
    assert np.array_equal(where, block((60, 60), slice(0, 11), slice(0, 11)))


@given(size=st.integers(32, 200), seed=st.integers(0, 2**63 - 1), index=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_masks_are_hard_and_never_empty(size, seed, index, normals, anomalies):
    mask = RealAnomalies(normals, anomalies, size)(index, seed).mask
    assert mask.any()
    assert set(np.unique(mask)) <= {0, 255}


def test_images_change_where_the_mask_says_so(normals, anomalies, tmp_path):
    """Exactly at the images' own size; after resizing, up to the reach of the bilinear filter."""
    for entry in normals[1:3]:
        read_image(entry.image).resize((96, 96)).save(tmp_path / f"{entry.sha256}.png")
    paths = [str(tmp_path / f"{entry.sha256}.png") for entry in normals[1:3]]
    squares = [replace(normals[1], image=path, sha256=file_sha256(path), height=96) for path in paths]
    for size, reach in ((96, 0), (48, 2), (37, 3)):
        generator = RealAnomalies(squares, anomalies, size)
        for seed in range(30):
            made = generator(seed % len(generator), seed)
            originals = [np.array(read_image(path).resize((size, size), Image.Resampling.BILINEAR)) for path in paths]
            changed = min(((made.image != image).any(axis=2) for image in originals), key=np.sum)
            near = ndimage.maximum_filter(made.mask, 2 * reach + 1) if reach else made.mask
            assert (changed & (near == 0)).sum() <= (0 if reach == 0 else 0.01 * size**2)


def test_quarter_turns_of_oblong_images_keep_their_scale(normals, anomalies):
    image, mask = np.zeros((40, 60, 3), dtype=np.uint8), block((40, 60), slice(15, 25), slice(20, 40))
    turned = rpag._fit(np.rot90(image), np.rot90(mask), (40, 60))
    assert turned[0].shape == (40, 60, 3)
    assert turned[1].sum() == 200
    assert ndimage.center_of_mass(turned[1]) == pytest.approx((19.5, 29.5), abs=0.6)


def test_anomalies_without_masks_are_refused(normals, anomalies):
    bare = replace(anomalies[1], mask="", mask_sha256="")
    with pytest.raises(NfbenchError, match=r"dent/001.png has no mask"):
        RealAnomalies(normals, [anomalies[0], bare], 64)


def test_no_anomalies_are_refused(normals):
    with pytest.raises(NfbenchError, match="needs real anomalies, got none"):
        RealAnomalies(normals, [], 64)


def test_an_empty_mask_is_refused(normals, anomalies, tmp_path):
    empty = with_mask(anomalies[0], tmp_path / "empty.png", np.zeros((80, 96), dtype=bool))
    with pytest.raises(NfbenchError, match=r"empty.png marks no pixel"):
        RealAnomalies(normals, [empty], 64)(0, 0)


def test_a_changed_mask_is_refused(normals, anomalies):
    with pytest.raises(NfbenchError, match=r"mask .* has changed since"):
        RealAnomalies(normals, [replace(anomalies[0], mask_sha256="0")], 64)(0, 0)


def test_a_tiny_anomaly_is_drawn_again_until_it_shows(normals, anomalies, tmp_path):
    tiny = with_mask(anomalies[0], tmp_path / "tiny.png", block((80, 96), slice(40, 42), slice(45, 47)))
    generator = RealAnomalies(normals, [tiny], 32)
    assert all(generator(0, seed).mask.any() for seed in range(10))


def test_an_anomaly_that_always_gets_lost_is_one_clear_error(normals, anomalies, monkeypatch):
    monkeypatch.setattr(rpag, "augment", lambda image, mask, rng: (image, np.zeros_like(mask)))
    with pytest.raises(NfbenchError, match=r"dent/000.png lost its anomaly in 100 attempts"):
        RealAnomalies(normals, anomalies, 64)(0, 0)


@pytest.mark.slow
def test_importing_asks_no_server():
    code = (
        "import os, urllib.request\n"
        "os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "def refuse(*arguments): raise SystemExit(3)\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "from nfbench.anomalies import rpag\n"
        "import sys\n"
        "assert 'albumentations' not in sys.modules and 'torch' not in sys.modules\n"
        "rpag._albumentations()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("category", ["bottle", "transistor"])
def test_real_anomalies(mvtec_root, category):
    entries = build_manifest(DATASET.samples(mvtec_root, category))
    generator = RealAnomalies([e for e in entries if e.split == "train"], choose_anomalies(entries, 10, 0), 256)
    assert len(generator) == 10
    shares = [(generator(index, index).mask > 0).mean() for index in range(10)]
    assert all(0 < share < 0.6 for share in shares)
