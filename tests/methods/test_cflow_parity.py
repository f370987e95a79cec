"""CFLOW-AD against anomalib's modules in float64, with weights and permutations carried over.

What differs is that anomalib computes its positional code in float32.
"""

import pytest
import torch
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.likelihood import fibre_chunks, log_density, to_fibres
from nfbench.blocks.method import Batch, LevelShape, build_method, resolve_settings
from nfbench.blocks.positional import sinusoidal_code
from tests.methods.peers import Peer

CFLOW = Peer("image.cflow.torch_model")
UTILS = Peer("image.cflow.utils")
SIZE = 64
SHAPES = [LevelShape(64, 16, 16), LevelShape(128, 8, 8), LevelShape(256, 4, 4)]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module", params=["hard", "soft"])
def models(request):
    """anomalib's model, ours with its weights, a batch of images and their features."""
    torch.manual_seed(0)
    peer = CFLOW.CflowModel(
        "resnet18",
        ["layer1", "layer2", "layer3"],
        pre_trained=False,
        fiber_batch_size=100,
        permute_soft=request.param == "soft",
    )
    settings = resolve_settings("cflow", overrides={"permutation": request.param})
    ours = build_method("cflow", SHAPES, settings, (SIZE, SIZE), 0)
    with torch.no_grad():
        for flow, peer_flow in zip(ours.flow, peer.decoders, strict=True):
            for step, block in zip(flow.module_list, peer_flow.module_list, strict=True):
                carry_over(step, block)
        images = torch.randn(3, 3, SIZE, SIZE)
        features = [(x / x.std()).double() for x in peer.encoder.eval()(images).values()]
    peer.encoder = Fixed(features)
    return peer.double(), ours.double(), images, features


class Fixed(torch.nn.Module):
    """An encoder with given features; a network with random weights would make them almost equal."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, images):
        return dict(zip(["layer1", "layer2", "layer3"], self.features, strict=True))


def carry_over(step, block):
    """Give our step the peer's weights, with scale and offset away from 1 and 0, and the peer our permutation."""
    block.global_scale.add_(0.3 * torch.randn_like(block.global_scale))
    block.global_offset.add_(0.3 * torch.randn_like(block.global_offset))
    step.global_scale.copy_(block.global_scale)
    step.global_offset.copy_(block.global_offset)
    hard = step.rotation is None
    block.w_perm.copy_(functional.one_hot(step.permutation) if hard else step.rotation)
    for parameter, peer_parameter in zip(step.subnet.parameters(), block.subnet.parameters(), strict=True):
        parameter.copy_(peer_parameter)


def peer_inputs(x):
    """Fibres and conditions as anomalib's training step has them."""
    batch, _, height, width = x.shape
    code = UTILS.positional_encoding_2d(128, height, width).flatten(1).T
    return x.permute(0, 2, 3, 1).flatten(0, 2), code.repeat(batch, 1)


@pytest.mark.parametrize(("channels", "height", "width"), [(128, 32, 32), (256, 5, 9)])
def test_code(channels, height, width):
    expected = UTILS.positional_encoding_2d(channels, height, width)
    torch.testing.assert_close(sinusoidal_code(channels, height, width), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_log_likelihood_of_each_position(models):
    peer, ours, _, features = models
    for decoder, x, (z, log_det) in zip(peer.decoders, features, ours.encode_levels(features), strict=True):
        fibres, condition = peer_inputs(x)
        peer_z, peer_log_det = decoder(fibres, [condition])
        expected = UTILS.get_logp(x.shape[1], peer_z, peer_log_det) / x.shape[1]
        torch.testing.assert_close(to_fibres(z), peer_z, **CLOSE)
        torch.testing.assert_close((log_density(z, log_det) / x.shape[1]).flatten(), expected, **CLOSE)
        assert expected.std() > 0.01


def test_losses_and_gradients(models):
    """anomalib's training step, on the rows that our generator draws."""
    peer, ours, _, features = models
    losses = ours.losses(Batch(Features(features)), torch.Generator().manual_seed(5))
    draws = torch.Generator().manual_seed(5)
    count = 0
    for flow, decoder, x in zip(ours.flow, peer.decoders, features, strict=True):
        fibres, condition = peer_inputs(x)
        for rows in fibre_chunks(len(fibres), 256, draws):
            z, log_det = decoder(fibres[rows], [condition[rows]])
            expected = -functional.logsigmoid(UTILS.get_logp(x.shape[1], z, log_det) / x.shape[1]).mean()
            loss = next(losses)
            torch.testing.assert_close(loss, expected, **CLOSE)
            gradients = torch.autograd.grad(loss, flow.parameters())
            trained = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
            for gradient, of_peer in zip(gradients, torch.autograd.grad(expected, trained), strict=True):
                torch.testing.assert_close(gradient, of_peer, **CLOSE)
            count += 1
    assert count == 3 + 1 + 1
    assert next(losses, None) is None


@torch.no_grad()
def test_maps_and_scores_relative_to_the_batch(models):
    """anomalib takes the maxima over the batch, and subtracts from the largest sum in it where we subtract from 3."""
    peer, ours, images, features = models
    expected = peer(images)
    ours.calibrate(lambda: [Features(features)])
    scores = ours.score(Features(features))
    shift = scores.maps.min()  # the largest sum is where our map is smallest
    torch.testing.assert_close(scores.maps - shift, expected.anomaly_map, **CLOSE)
    torch.testing.assert_close(scores.images - shift, expected.pred_score, **CLOSE)
    assert expected.anomaly_map.std() > 0.01
