"""PaDiM and PatchCore against anomalib's modules, on the same features.

Maps are compared before they are blurred: anomalib mirrors them without their border pixels.
"""

import pytest
import torch
from torch import nn

from nfbench.blocks.coreset import select_coreset
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, load_method, resolve_settings
from nfbench.methods.padim import pack_rows
from tests.methods.peers import Peer

SAMPLING = Peer("components.sampling.k_center_greedy")
COMPONENTS = Peer("components")
PADIM = Peer("image.padim.torch_model")
PATCHCORE = Peer("image.patchcore.torch_model")
LAYERS = ["layer1", "layer2", "layer3"]
SHAPES = [LevelShape(64, 24, 24), LevelShape(128, 12, 12), LevelShape(256, 6, 6)]
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


class Given(nn.Module):
    """In place of a backbone: the features themselves."""

    features = ()

    def forward(self, _):
        return dict(zip(LAYERS, self.features, strict=False))


def draw(n, n_levels, seed):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(n, *shape, generator=generator) for shape in SHAPES[:n_levels]])


def run(peer, features, size):
    peer.feature_extractor.features = features.levels
    return peer(torch.zeros(len(features), 3, size, size))


@pytest.fixture
def padim():
    torch.manual_seed(0)
    peer = PADIM.PadimModel("resnet18", LAYERS, pre_trained=False, n_features=70)
    peer.feature_extractor, peer.anomaly_map_generator.blur = Given(), nn.Identity()
    train, test = draw(20, 3, 1), draw(3, 3, 2)
    run(peer.train(), train, 48)
    peer.fit()
    # anomalib adds 1e-5 to the diagonal on top of 0.01
    settings = resolve_settings(
        "padim", overrides={"reduced_dimensions": 70, "regularization": 0.01001, "smoothing": 0}
    )
    ours = build_method("padim", SHAPES, settings, (48, 48), 0)
    return peer.eval(), ours, train, test


@torch.no_grad()
def test_padim_with_statistics_carried_over(padim):
    peer, ours, _, test = padim
    channels, order = peer.idx.sort()
    precision = peer.gaussian.inv_covariance[:, order][:, :, order].double()
    whitening = torch.linalg.inv(torch.linalg.cholesky(torch.linalg.inv(0.5 * (precision + precision.mT)))).float()
    load_method(ours, {"channels": channels, "mean": peer.gaussian.mean[order].T, "whitening": pack_rows(whitening)})
    found, expected = ours.score(test), run(peer, test, 48)
    torch.testing.assert_close(found.maps, expected.anomaly_map[:, 0], **TOLERANCE)
    torch.testing.assert_close(found.images, expected.pred_score.flatten(), **TOLERANCE)
    assert found.images.min() > 5


@torch.no_grad()
def test_padim_fitted_to_the_same_features(padim):
    peer, ours, train, test = padim
    ours.channels.copy_(peer.idx.sort().values)
    ours.prepare(lambda: [train[:13], train[13:]])
    found, expected = ours.score(test), run(peer, test, 48)
    torch.testing.assert_close(found.maps, expected.anomaly_map[:, 0], **TOLERANCE)
    torch.testing.assert_close(found.images, expected.pred_score.flatten(), **TOLERANCE)


class _Unprojected:
    """In place of anomalib's projection: the points themselves."""

    def __init__(self, eps):
        pass

    def fit(self, embedding):
        return self

    def transform(self, embedding):
        return embedding


@pytest.mark.parametrize("neighbors", [9, 1])
@torch.no_grad()
def test_patchcore(neighbors, monkeypatch):
    """Embedding, coreset, maps and image scores; maps have the size of the grid, where anomalib's nearest-neighbour
    up-sampling and our bilinear one both do nothing."""
    monkeypatch.setattr(SAMPLING.module, "SparseRandomProjection", _Unprojected)
    train, test = draw(3, 2, 1), draw(2, 2, 2)
    peer = PATCHCORE.PatchcoreModel(LAYERS[:2], "resnet18", pre_trained=False, num_neighbors=neighbors)
    peer.feature_extractor, peer.anomaly_map_generator.blur = Given(), nn.Identity()
    torch.manual_seed(0)
    start = int(torch.randint(3 * 576, (1,)))
    run(peer.train(), train, 24)
    torch.manual_seed(0)  # anomalib draws its first point now, the same
    peer.subsample_embedding(0.1)
    overrides = {
        "embedding": "average", "distance": "euclidean", "reweighting": neighbors > 1, "start": "point",
        "reweighting_neighbors": neighbors, "projection_dim": 192, "smoothing": 0,
    }  # fmt: skip
    ours = build_method("patchcore", SHAPES[:2], resolve_settings("patchcore", overrides=overrides), (24, 24), 0)
    ours.start_points[0] = (start + 0.5) / (3 * 576)
    ours.prepare(lambda: [train[:2], train[2:]])

    def by_rows(bank):
        return bank[bank[:, 0].argsort()]

    torch.testing.assert_close(by_rows(ours.memory_bank), by_rows(peer.memory_bank), atol=1e-6, rtol=1e-6)
    found, expected = ours.score(test), run(peer.eval(), test, 24)
    torch.testing.assert_close(found.maps, expected.anomaly_map[:, 0], **TOLERANCE)
    torch.testing.assert_close(found.images, expected.pred_score.flatten(), **TOLERANCE)


@pytest.mark.parametrize("clusters", [0, 12])
def test_coreset(clusters):
    """The same points in the same order, on points without near ties.

    anomalib works in float32 by differences, so that points equally far to about 1e-6 may change places; it does not
    keep a point from being selected twice once all others are duplicates, where we go on with the next one.
    """
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(2500, 32, generator=generator)
    if clusters:
        points = 0.3 * points + 4 * torch.randn(clusters, 32, generator=generator)[torch.arange(2500) % clusters]
    expected = COMPONENTS.KCenterGreedy(points[:, :, None], 0.1).select_coreset_idxs()  # with a third axis, unprojected
    found = select_coreset(points, 250, expected[0], pool_size=300)
    assert found.tolist() == expected
