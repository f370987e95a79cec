"""Scores of images, batch by batch."""

import weakref

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import Scores
from nfbench.core.errors import NfbenchError
from nfbench.scoring.maps import score_images

CPU = torch.device("cpu")


class InDoublePrecision:
    """Maps are the features, in float64, of which the batches that are still in memory are counted."""

    title, gradient_maps = "In double precision", None

    def __init__(self):
        self.made, self.largest = [], 0

    def score(self, features):
        self.largest = max(self.largest, sum(made() is not None for made in self.made))
        maps = features.levels[0][:, 0].double() / 3
        self.made.append(weakref.ref(maps))
        return Scores(maps, maps.amax((1, 2)))


def test_maps_are_kept_in_float32_and_batch_by_batch():
    values = np.random.default_rng(0).normal(size=(70, 1, 8, 8)).astype(np.float32)
    method = InDoublePrecision()
    scored = score_images(method, Features([values]), CPU)
    assert len(method.made) > 2
    assert method.largest <= 1
    assert scored.maps.dtype == np.float32
    np.testing.assert_array_equal(scored.maps, (values[:, 0].astype(np.float64) / 3).astype(np.float32))
    np.testing.assert_array_equal(scored.images["max"], scored.maps.max((1, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_names_its_image(value):
    values = np.zeros((40, 1, 8, 8), dtype=np.float32)
    values[33, 0, 2, 2] = value
    with pytest.raises(NfbenchError, match="of 1 images are not finite, first image 33"):
        score_images(InDoublePrecision(), Features([values]), CPU)
