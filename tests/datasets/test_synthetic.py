"""Synthetic images are the same on all machines, with defects exactly at the masks."""

import hashlib

import numpy as np
import pytest

from nfbench.datasets import synthetic
from nfbench.datasets._drawing import DEFECTS, draw_anomalous, draw_normal
from nfbench.datasets.synthetic import DATASET


@pytest.mark.parametrize("category", DATASET.categories)
def test_images_follow_from_their_names(category):
    assert np.array_equal(draw_normal(category, "train", 3), draw_normal(category, "train", 3))
    assert not np.array_equal(draw_normal(category, "train", 3), draw_normal(category, "train", 4))
    assert not np.array_equal(draw_normal(category, "train", 3), draw_normal(category, "test", 3))


def test_mask_is_the_same_on_every_machine():
    _, mask = draw_anomalous("fabric", "stain", 0)
    assert hashlib.sha256(mask.tobytes()).hexdigest()[:16] == "447b8270c51b759d"


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("category", DATASET.categories)
def test_defects_have_masks_of_plausible_size(category, defect):
    for number in range(3):
        image, mask = draw_anomalous(category, defect, number)
        assert image.shape == (*mask.shape, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert 10 <= (mask > 0).sum() < 0.2 * mask.size


def test_sizes_of_a_defect_vary():
    areas = [(draw_anomalous("stone", "stain", number)[1] > 0).sum() for number in range(8)]
    assert max(areas) > 3 * min(areas)


def test_dataset_is_made_once_and_repaired(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "N_TRAIN", 3)
    monkeypatch.setattr(synthetic, "N_TEST_NORMAL", 2)
    monkeypatch.setattr(synthetic, "N_TEST_PER_DEFECT", 1)
    samples = DATASET.samples(tmp_path, "washer")
    assert len(samples) == 3 + 2 + len(DEFECTS)
    first = samples[0].image
    content, made = first.read_bytes(), samples[1].image.stat().st_mtime_ns
    first.unlink()
    assert DATASET.samples(tmp_path, "washer") == samples
    assert first.read_bytes() == content
    assert samples[1].image.stat().st_mtime_ns == made
