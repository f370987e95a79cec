"""Representations of positions: deviations, chosen positions and their planes against plain computations."""

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.scoring.likelihoods import Positions
from nfbench.scoring.representations import describe_representations

CPU = torch.device("cpu")
SHAPES = [LevelShape(6, 8, 8), LevelShape(8, 4, 4)]
OVERRIDES = {"nfad": {"condition_dim": 8, "coupling_blocks": 2}, "simplenet": {"embedding_dim": 12, "smoothing": 1}}


def build(name):
    return build_method(name, SHAPES, resolve_settings(name, overrides=OVERRIDES.get(name)), (32, 32), 0).eval()


def features_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return Features([(3 + rng.normal(size=(count, *shape))).astype(np.float16) for shape in SHAPES])


def masked(count, groups=("normal", "anomalous")):
    masks = np.zeros((count, 32, 32), np.uint8)
    masks[::2, :16, :16] = 1
    return Positions(features_of(count, 1), masks, groups)


def by_hand(method, features):
    """Representations of all positions ``(B, H, W, C)``, by name and level."""
    with torch.inference_mode():
        found = method.representations(features.map(lambda part: torch.from_numpy(part).float()))
    return {
        (name, n): x.double().movedim(1, -1).numpy() for name, levels in found.items() for n, x in enumerate(levels)
    }


@pytest.mark.parametrize("name", ["nfad", "simplenet"])
def test_deviations_are_those_of_the_positions_of_few_images(name):
    method, normal = build(name), features_of(100)
    chosen = np.linspace(0, 99, 40).astype(int)
    expected = by_hand(method, normal[chosen])
    found = describe_representations(method, normal, [], CPU)
    assert [(one.name, one.level) for one in found] == list(expected)
    for one in found:
        values = expected[one.name, one.level]
        np.testing.assert_allclose(one.deviations, values.reshape(-1, values.shape[-1]).std(0), rtol=1e-4)
        assert one.points.shape == (0, 2)


def test_points_are_principal_components_of_positions_of_their_group():
    method, parts = build("nfad"), [masked(30), masked(4, (None, "learned"))]
    for one in describe_representations(method, features_of(5), parts, CPU):
        (test, learned), side = (by_hand(method, part.features)[one.name, one.level] for part in parts), 8 >> one.level
        corner = np.zeros((side, side), bool)
        corner[: side // 2, : side // 2] = True
        groups = {"normal": [test[::2, ~corner], test[1::2]], "anomalous": [test[::2, corner]]}
        groups["learned"] = [learned[::2, corner]]
        assert set(one.groups) == set(groups)
        everything = {name: np.concatenate([x.reshape(-1, x.shape[-1]) for x in of]) for name, of in groups.items()}
        limits = {
            "normal": 300,
            "anomalous": min(300, 15 * min(32, side**2 // 4)),
            "learned": 2 * min(32, side**2 // 4),
        }
        assert {name: int((one.groups == name).sum()) for name in limits} == limits
        if {name: len(values) for name, values in everything.items()} == limits:  # all positions are drawn
            values = np.concatenate(list(everything.values()))
            eigenvalues = np.linalg.eigvalsh(np.cov(values.T))[::-1]
            np.testing.assert_allclose(one.points.var(0, ddof=1), eigenvalues[:2], rtol=1e-5)
            np.testing.assert_allclose(one.shares, eigenvalues[:2] / eigenvalues.sum(), rtol=1e-5)
        np.testing.assert_allclose(one.points.mean(0), 0, atol=1e-8)
        assert abs(np.corrcoef(one.points.T)[0, 1]) < 1e-8


def test_equal_runs_have_equal_representations():
    first, second = (describe_representations(build("nfad"), features_of(5), [masked(6)], CPU) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for value, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(value, same)


def test_methods_without_representations_have_none():
    assert describe_representations(build("uflow"), features_of(3), [masked(4)], CPU) == []
