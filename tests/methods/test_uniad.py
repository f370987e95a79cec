"""UniAD: size and mask are the published ones, attention is torch's, neighbours are unseen, the target is clean."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.method import (
    Batch,
    LevelShape,
    build_method,
    build_to_count,
    count_parameters,
    resolve_settings,
)  # fmt: skip
from nfbench.core.errors import NfbenchError
from nfbench.methods.uniad import _Attention, _drop, _EncoderLayer, _keep, neighbor_mask

B4 = [LevelShape(24, 112, 112), LevelShape(32, 56, 56), LevelShape(56, 28, 28), LevelShape(160, 14, 14)]
SHAPES = [LevelShape(6, 16, 16), LevelShape(10, 8, 8)]
SMALL = {"hidden_dim": 16, "heads": 2, "layers": 2, "feedforward_dim": 24, "neighborhood": 3}


def build(seed=0, shapes=SHAPES, **overrides):
    settings = resolve_settings("uniad", overrides={**SMALL, **overrides})
    return build_method("uniad", shapes, settings, (64, 64), seed)


def draw(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(count, *shape, generator=generator) for shape in SHAPES])


def loss_of(method, features, seed=0):
    (loss,) = method.losses(Batch(features), torch.Generator().manual_seed(seed))
    return loss


def test_the_network_has_the_published_number_of_parameters():
    model = build_to_count("uniad", B4, resolve_settings("uniad"), (224, 224))
    assert count_parameters(model)["total"] == 7_717_392
    for layers, expected in ((model.network.encoder, 789_760), (model.network.decoder, 1_103_616)):
        assert [sum(p.numel() for p in layer.parameters()) for layer in layers] == [expected] * 4


def test_the_mask_blocks_a_square_around_each_position():
    blocked = neighbor_mask(14, 14, 7)
    sums = blocked.sum(1).view(14, 14)
    assert sums[0, 0] == 16
    assert (sums[3:-3, 3:-3] == 49).all()
    assert blocked.sum() == 7396
    assert blocked.diagonal().all()
    assert torch.equal(neighbor_mask(3, 5, 1), torch.eye(15, dtype=torch.bool))
    assert not neighbor_mask(3, 5, 0).any()


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    own, other, mask = _Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True), neighbor_mask(6, 6, 3)
    with torch.no_grad():
        for part in own.children():
            part.bias.normal_()
        parts = [own.query, own.key, own.value]
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        other.out_proj.load_state_dict(own.output.state_dict())
    query, key, value = torch.randn(3, 2, 36, 16).unbind()
    expected, _ = other(query, key, value, attn_mask=mask)
    torch.testing.assert_close(own(query, key, value, mask, _keep), expected)


def test_attention_starts_as_torch_starts_it():
    torch.manual_seed(0)
    own, other = _Attention(256, 8), nn.MultiheadAttention(256, 8)
    for part in (own.query, own.key, own.value):
        torch.testing.assert_close(part.weight.abs().max(), other.in_proj_weight.abs().max(), rtol=1e-3, atol=0)
    for module in build(hidden_dim=16).modules():
        if isinstance(module, nn.Linear):
            assert not module.bias.any()


def test_a_layer_does_not_see_the_neighbors_of_a_position():
    """Except the position itself, to which attention adds its output."""
    torch.manual_seed(0)
    layer, mask = _EncoderLayer(16, 2, 24).double(), neighbor_mask(9, 9, 7)
    x = torch.randn(1, 81, 16, dtype=torch.double, requires_grad=True)
    place = 3 * 9 + 5
    layer(x, torch.randn(81, 16), mask, _keep)[0, place].square().sum().backward()
    seen = x.grad[0].abs().sum(1) > 0
    expected = ~mask[place]
    expected[place] = True
    assert torch.equal(seen, expected)


def test_the_output_follows_from_far_positions_alone():
    """All layers of the decoder start from their queries, so that the input of a position reaches it by others only."""
    torch.manual_seed(0)
    method = build(layers=1).double()
    x = torch.randn(1, 64, 16, dtype=torch.double, requires_grad=True)
    method.network.encoder = nn.ModuleList()
    place = 3 * 8 + 4
    method.network(x, _keep)[0, place].square().sum().backward()
    seen = x.grad[0].abs().sum(1) > 0
    assert torch.equal(seen, ~neighbor_mask(8, 8, 3)[place])


def test_the_target_is_the_clean_feature():
    """A network that copies its input pays for the noise: (20 |x| / C)^2 on average."""

    class Copy(nn.Module):
        def forward(self, x, drop):
            return x

    method, features = build(), draw(32)
    method.network = Copy()
    x = method._positions(features)
    expected = (20 * x.norm(dim=2) / x.shape[2]).square().mean()
    torch.testing.assert_close(loss_of(method, features), expected, rtol=0.03, atol=0)
    assert method.score(features).maps.abs().max() == 0
    quiet = build(jitter=0)
    quiet.network = Copy()
    assert loss_of(quiet, features) == 0


def test_noise_and_dropout_follow_from_the_generator_and_are_of_training_alone():
    method, features = build(dropout=0.5), draw(4)
    torch.manual_seed(1)
    found = [loss_of(method, features, seed).item() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    method.train()
    one, other = (method.score(features) for _ in range(2))
    assert torch.equal(one.maps, other.maps)
    plain = build(dropout=0, jitter=0)
    x = plain._positions(features)
    torch.testing.assert_close(loss_of(plain, features), functional.mse_loss(plain.network(x, _keep), x))


def test_dropout_keeps_the_mean():
    x = _drop(0.2, torch.Generator().manual_seed(0), torch.ones(10_000))
    assert set(x.tolist()) == {0.0, 1.25}
    assert x.mean() == pytest.approx(1, abs=0.02)


def test_levels_are_resized_to_the_coarsest_with_corners_on_corners():
    features, method = draw(2), build()
    x = method._positions(features).mT.unflatten(2, (8, 8))
    fine, coarse = x.split([6, 10], dim=1)
    assert torch.equal(coarse, features.levels[1])
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(fine[..., corner[0], corner[1]], features.levels[0][..., corner[0], corner[1]])


def test_an_image_scores_as_the_largest_mean_of_a_square():
    method = build()
    scores = method.score(draw(3))
    squares = scores.maps.unfold(1, 16, 1).unfold(2, 16, 1).mean((3, 4))
    torch.testing.assert_close(scores.images, squares.flatten(1).amax(1))
    x = method._positions(draw(3))
    norms = (x - method.network(x, _keep)).norm(dim=2).view(3, 8, 8)
    torch.testing.assert_close(scores.maps[:, 0, 0], norms[:, 0, 0])
    torch.testing.assert_close(scores.maps[:, -1, -1], norms[:, -1, -1])


def test_a_neighborhood_that_leaves_nothing_is_refused():
    with pytest.raises(NfbenchError, match="'neighborhood' 9 of method 'uniad' excludes all positions of the 8 x 8"):
        build(neighborhood=9)
    for side in (0, 1, 7):
        assert build(neighborhood=side).score(draw(1)).maps.isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"heads": 3}, "'heads' 3 does not divide"),
        ({"neighborhood": 4}, "must be odd, or 0 for none; got 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(overrides, said):
    with pytest.raises(NfbenchError, match=said):
        build(**overrides)
