"""FastFlow and U-Flow against anomalib's modules, with weights and permutations carried over."""

import pytest
import torch

from nfbench.backbones._extractors import import_timm
from nfbench.blocks.all_in_one import AllInOneStep
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from tests.methods.peers import Peer

FLOW = Peer("components.flow")
FASTFLOW = Peer("image.fastflow.torch_model")
UFLOW = Peer("image.uflow.torch_model")
SIZE = 64
SHAPES = [LevelShape(64, 16, 16), LevelShape(128, 8, 8), LevelShape(256, 4, 4)]


def carry_over(ours, peer_flow, peer_norms):
    """Give our method the peer's weights, and both some that are not the initial ones."""
    for norm, peer_norm in zip(ours.normalization, peer_norms, strict=True):
        torch.nn.init.normal_(peer_norm.weight, 1, 0.1)
        torch.nn.init.normal_(peer_norm.bias, 0, 0.1)
        norm.load_state_dict(peer_norm.state_dict())
    steps = [module for module in ours.flow.modules() if isinstance(module, AllInOneStep)]
    blocks = [module for module in peer_flow.modules() if isinstance(module, FLOW.AllInOneBlock)]
    with torch.no_grad():
        for step, block in zip(steps, blocks, strict=True):
            block.global_scale += 0.1 * torch.randn_like(block.global_scale)
            block.global_offset += 0.1 * torch.randn_like(block.global_offset)
            step.global_scale.copy_(block.global_scale)
            step.global_offset.copy_(block.global_offset)
            step.permutation.copy_(block.w_perm.flatten(1).argmax(1))
            step.inverse_permutation.copy_(step.permutation.argsort())
            for parameter, peer_parameter in zip(step.subnet.parameters(), block.subnet.parameters(), strict=True):
                parameter.copy_(peer_parameter)


@pytest.fixture
def image():
    torch.manual_seed(0)
    return torch.randn(2, 3, SIZE, SIZE)


@pytest.mark.parametrize("kernels", ["alternating", "3x3"])
@torch.no_grad()
def test_fastflow(image, kernels):
    peer = FASTFLOW.FastflowModel(
        (SIZE, SIZE), "resnet18", pre_trained=False, flow_steps=8, conv3x3_only=kernels == "3x3", hidden_ratio=1.0
    )
    ours = build_method(
        "fastflow", SHAPES, resolve_settings("fastflow", overrides={"kernels": kernels}), (SIZE, SIZE), 0
    )
    carry_over(ours, peer.fast_flow_blocks, peer.norms)
    features = Features(peer.feature_extractor.eval()(image))
    z_peer, log_det_peer = peer.train()(image)
    z, log_det = ours.latents(features)
    for latent, latent_peer in zip(z, z_peer, strict=True):
        torch.testing.assert_close(latent, latent_peer, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_det, sum(log_det_peer), atol=1e-5, rtol=1e-5)
    scored, scored_peer = ours.score(features), peer.eval()(image)
    torch.testing.assert_close(scored.maps, 1 + scored_peer.anomaly_map[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scored.images, 1 + scored_peer.pred_score.flatten(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_uflow(image, monkeypatch):
    timm = import_timm()
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: create(*a, **{**k, "pretrained": False}))
    peer = UFLOW.UflowModel((SIZE, SIZE), flow_steps=4, backbone="resnet18")
    ours = build_method("uflow", SHAPES, resolve_settings("uflow"), (SIZE, SIZE), 0)
    carry_over(ours, peer.flow, peer.feature_extractor.feature_normalizations)
    features = Features(peer.feature_extractor.extract_features(image))
    z_peer, log_det_peer = peer.train()(image)
    z, log_det = ours.latents(features)
    for latent, latent_peer in zip(z, z_peer[::-1] if z_peer[0].shape != z[0].shape else z_peer, strict=True):
        torch.testing.assert_close(latent, latent_peer, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_det, log_det_peer, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.score(features).maps, peer.eval()(image).anomaly_map[:, 0], atol=1e-5, rtol=1e-5)
