"""Histograms of the log-likelihoods of positions: groups, shares, bins."""

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import Entry
from nfbench.scoring.likelihoods import Positions, likelihood_histograms, positions_of_test

CPU = torch.device("cpu")
SHAPES = [LevelShape(6, 8, 8), LevelShape(8, 4, 4)]


@pytest.fixture
def method():
    settings = resolve_settings("nfad", overrides={"condition_dim": 8, "coupling_blocks": 2})
    return build_method("nfad", SHAPES, settings, (32, 32), 0).eval()


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    levels = [rng.normal(size=(count, *shape)).astype(np.float16) for shape in SHAPES]
    masks = np.zeros((count, 32, 32), np.uint8)
    masks[1, :16, :16] = 1
    return Positions(Features(levels), masks, ("normal", "anomalous"))


def by_group(rows, level):
    found = {}
    for at, group, left, right, share in rows:
        if at == level:
            found.setdefault(group, []).append((left, right, share))
    return {group: np.array(values) for group, values in found.items()}


def test_shares_are_those_of_the_positions(method):
    given = images(20)
    rows = list(likelihood_histograms(method, [given], CPU))
    with torch.inference_mode():
        features = given.features.map(lambda level: torch.from_numpy(level).float())
        levels = [values.double().numpy() for _, values in method.position_log_likelihoods(features)]
    for level, values in enumerate(levels):
        anomalous = np.zeros(values.shape, bool)
        side = values.shape[-1] // 2
        anomalous[1, :side, :side] = True
        found = by_group(rows, level)
        for group, chosen in (("normal", values[~anomalous]), ("anomalous", values[anomalous])):
            left, right, share = found[group].T
            expected = [((chosen >= low) & (chosen < high)).mean() for low, high in zip(left, right, strict=True)]
            np.testing.assert_allclose(share[1:-1], expected[1:-1], atol=1e-12)
            assert share.sum() == pytest.approx(1)  # the outer bins take what lies beyond
        assert np.array_equal(found["normal"][:, :2], found["anomalous"][:, :2])


def test_groups_without_a_name_or_a_position_are_left_out(method):
    normal = images(3)
    normal.masks[:] = 0
    pseudo = images(3, seed=1)._replace(groups=(None, "pseudo"))
    groups = set(by_group(likelihood_histograms(method, [normal, pseudo], CPU), 0))
    assert groups == {"normal", "pseudo"}


def entries_of(mask, count):
    """Test images of which every third has a region."""
    region = np.zeros((64, 96), np.uint8)
    region[:32, :48] = 255
    Image.fromarray(region).save(mask)
    marked, normal = (str(mask), file_sha256(mask)), ("", "")
    kinds = [marked if index % 3 == 0 else normal for index in range(count)]
    return [
        Entry("test", int(bool(path)), "dent", f"{index}.png", path, 64, 96, "", digest)
        for index, (path, digest) in enumerate(kinds)
    ]


def test_positions_are_of_few_images_evenly_spaced(tmp_path):
    features = Features([np.arange(100.0).reshape(-1, 1, 1, 1)])
    found = positions_of_test(features, entries_of(tmp_path / "mask.png", 100), (32, 24))
    numbers = found.features.levels[0].ravel().astype(int)
    assert len(numbers) == 40
    assert (numbers[0], numbers[-1]) == (0, 99)
    assert set(np.diff(numbers)) == {2, 3}
    for number, mask in zip(numbers, found.masks, strict=True):
        assert mask.shape == (32, 24)
        assert mask[:16, :12].all() == (number % 3 == 0)
        assert not mask[17:].any()
