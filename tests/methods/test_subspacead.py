"""SubspaceAD: distances are those of scikit-learn's PCA; what the subspace holds, and rotations, change nothing."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from sklearn.decomposition import PCA

from nfbench.blocks.features import Features
from nfbench.blocks.maps import resize_maps
from nfbench.blocks.method import LevelShape, build_method, load_method, resolve_settings

SHAPES = [LevelShape(6, 8, 8)]
SIDE = 32


def fit(levels, shapes=SHAPES, batch=3, **overrides):
    settings = resolve_settings("subspacead", overrides=overrides)
    model = build_method("subspacead", shapes, settings, (SIDE, SIDE), 0).train()
    model.prepare(
        lambda: [Features([x[first : first + batch] for x in levels]) for first in range(0, len(levels[0]), batch)]
    )
    return model.eval()


def draw(count, seed=0, rank=6, shape=SHAPES[0]):
    """Patches in a subspace of ``rank`` dimensions, with variances that fall by the factor 3."""
    generator = torch.Generator().manual_seed(seed)
    scales = 3.0 ** -torch.arange(rank)
    basis = torch.linalg.qr(torch.randn(shape.channels, shape.channels, generator=torch.Generator().manual_seed(9)))[0]
    values = torch.randn(count, shape.height, shape.width, rank, generator=generator) * scales
    return (values @ basis[:, :rank].T + 2).permute(0, 3, 1, 2).contiguous()


def distances(model, x):
    """Squared distances of positions, before they are resized."""
    return ((model._patches(Features([x])) - model.mean) @ model.residual.T).square().sum(-1)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 0.999])
def test_distances_are_those_of_pca(share):
    train, test = draw(7), draw(4, seed=1)
    model = fit([train], explained_variance=share)
    patches, tested = (x.permute(0, 2, 3, 1).reshape(-1, 6).double().numpy() for x in (train, test))
    pca = PCA(share, svd_solver="full").fit(patches)
    rest = tested - pca.inverse_transform(pca.transform(tested))
    assert len(model.residual) == 6 - pca.n_components_
    np.testing.assert_allclose(distances(model, test).flatten(), (rest**2).sum(1), rtol=1e-6, atol=1e-12)
    maps = resize_maps([distances(model, test).float()], (SIDE, SIDE))[0].numpy()
    line = np.exp(-np.array([1.0, 0, 1.0]) / 32)
    blurred = np.stack([correlate(x, np.outer(line, line) / line.sum() ** 2, mode="mirror") for x in maps])
    scores = model.score(Features([test]))
    np.testing.assert_allclose(scores.maps, blurred, rtol=1e-4, atol=1e-7)
    top = np.sort(blurred.reshape(4, -1))[:, -(SIDE * SIDE // 100) :].mean(1)
    np.testing.assert_allclose(scores.images, top, rtol=1e-5)


def test_normal_subspace_has_distance_0_and_leaving_it_counts_in_full():
    model = fit([draw(7, rank=3)])
    inside = draw(2, seed=5, rank=3)
    assert len(model.residual) == 3
    assert distances(model, inside).max() < 1e-9
    outward = model.residual[0].float()[None, :, None, None]
    torch.testing.assert_close(
        distances(model, inside + 0.5 * outward), torch.full((2, 8, 8), 0.25).double(), atol=1e-5, rtol=0
    )


def test_rotated_features_have_the_same_distances():
    train, test = draw(7), draw(3, seed=1)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4)))[0]
    rotated = [torch.einsum("dc,bchw->bdhw", rotation, x) for x in (train, test)]
    first, second = distances(fit([train]), test), distances(fit([rotated[0]]), rotated[1])
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-9)


def test_an_eigenvector_is_left_out_of_patches_with_one_channel():
    model = fit([draw(4, rank=1, shape=LevelShape(1, 8, 8))], [LevelShape(1, 8, 8)])
    assert model.residual.shape == (1, 1)
    assert (distances(model, torch.full((1, 1, 8, 8), 100.0)) > 1).all()


def test_levels_of_one_shape_are_averaged_and_others_concatenated():
    fine, coarse = draw(5), draw(5, seed=2, shape=LevelShape(4, 4, 4), rank=4)
    averaged = fit([fine, 3 * fine], 2 * SHAPES)
    np.testing.assert_allclose(averaged.mean, fit([2 * fine]).mean, rtol=1e-6)
    joined = fit([fine, coarse], [*SHAPES, LevelShape(4, 4, 4)])
    assert joined.mean.shape == (10,)
    assert joined.score(Features([fine, coarse])).maps.shape == (5, SIDE, SIDE)


def test_a_loaded_model_scores_the_same():
    train, test = draw(7), Features([draw(3, seed=1)])
    model = fit([train])
    empty = build_method("subspacead", SHAPES, resolve_settings("subspacead"), (SIDE, SIDE), 0)
    torch.testing.assert_close(load_method(empty, model.state_dict()).score(test), model.score(test), rtol=0, atol=0)
