"""CS-Flow against anomalib's model, with weights and permutations carried over."""

import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from tests.methods.peers import Peer

CSFLOW = Peer("image.csflow.torch_model")
SIZE, HIDDEN = 256, 12
SHAPES = [LevelShape(304, 8, 8), LevelShape(304, 4, 4), LevelShape(304, 2, 2)]


class PassedThrough(torch.nn.Module):
    """In place of the peer's backbone, which would download its weights: passes features through."""

    def __init__(self, **_):
        super().__init__()

    def forward(self, features):
        return features


@pytest.fixture
def peer(monkeypatch):
    monkeypatch.setattr(CSFLOW.module, "CsFlowMultiScaleFeatureExtractor", PassedThrough)
    torch.manual_seed(0)
    model = CSFLOW.CsFlowModel((SIZE, SIZE), HIDDEN)
    for net in (module for module in model.modules() if isinstance(module, CSFLOW.CrossConvolutions)):
        for gamma in (net.gamma0, net.gamma1, net.gamma2):
            torch.nn.init.normal_(gamma)
    return model


@torch.no_grad()
def carry_over(ours, peer):
    """Give our method the weights and permutations of the peer."""
    permutes = [module for module in peer.modules() if isinstance(module, CSFLOW.ParallelPermute)]
    couplings = [module for module in peer.modules() if isinstance(module, CSFLOW.ParallelGlowCouplingLayer)]
    for step, permute, coupling in zip(ours.flow.steps, permutes, couplings, strict=True):
        step.permutations.copy_(torch.stack(permute.perm))
        pairs = [(step.net1, coupling.cross_convolution1), (step.net2, coupling.cross_convolution2)]
        for net, theirs in pairs:
            net.gamma.copy_(torch.cat([theirs.gamma0, theirs.gamma1, theirs.gamma2]))
            convolutions = {
                "enter": [theirs.conv_scale0_0, theirs.conv_scale1_0, theirs.conv_scale2_0],
                "leave": [theirs.conv_scale0_1, theirs.conv_scale1_1, theirs.conv_scale2_1],
                "from_coarser": [theirs.up_conv10, theirs.up_conv21],
                "from_finer": [theirs.down_conv01, theirs.down_conv12],
            }
            for name, modules in convolutions.items():
                getattr(net, name).load_state_dict(torch.nn.ModuleList(modules).state_dict())


@torch.no_grad()
def test_latents_log_det_maps_and_scores(peer):
    settings = resolve_settings("csflow", overrides={"hidden_channels": HIDDEN, "localization": "product"})
    ours = build_method("csflow", SHAPES, settings, (SIZE, SIZE), 1)
    carry_over(ours, peer)
    features = [torch.randn(2, *shape) for shape in SHAPES]
    z, log_det = ours.flow(features)
    z_peer, _ = peer.train()(features)
    torch.testing.assert_close(z, list(z_peer), atol=1e-4, rtol=1e-4)
    # the peer adds log-determinants up over the batch, so it gets one image at a time
    log_det_peer = torch.cat([peer([x[image : image + 1] for x in features])[1] for image in range(2)])
    torch.testing.assert_close(log_det, log_det_peer, atol=1e-4, rtol=1e-4)
    assert log_det.abs().min() > 1
    assert all((latent - x).abs().max() > 1 for latent, x in zip(z, features, strict=True))
    scored, scored_peer = ours.score(Features(features)), peer.eval()(features)
    torch.testing.assert_close(scored.maps, scored_peer.anomaly_map[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scored.images, scored_peer.pred_score, atol=1e-4, rtol=1e-4)
    trainable = sum(parameter.numel() for parameter in peer.parameters() if parameter.requires_grad)
    assert sum(parameter.numel() for parameter in ours.parameters()) == trainable
