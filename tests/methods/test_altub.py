"""AltUB: a base per channel folds into the last step, is learned in turns with the flow, and is fitted in one go."""

import math

import numpy as np
import pytest
import torch

from nfbench.blocks.bases import ChannelBase, fit_bases, is_turn_of_base
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, LevelShape, build_method, count_parameters, resolve_settings
from nfbench.scoring.a_contrario import log_nfa

SHAPES = [LevelShape(8, 8, 8), LevelShape(12, 4, 4), LevelShape(16, 2, 2)]
METHODS = ["fastflow", "uflow"]


def build(name, shapes=SHAPES, moved=0.2, **overrides):
    """A model away from its start, in float64; the flow does not depend on the base."""
    settings = resolve_settings(name, overrides={"normalization": "none", "flow_steps": 2, **overrides})
    model = build_method(name, shapes, settings, (32, 32), 0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.flow.parameters():
        parameter.data += moved * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def draw(count, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(count, *shape, generator=generator, dtype=torch.double) for shape in shapes])


def with_any_base(model):
    """Mean and scale of all channels drawn at random."""
    generator = torch.Generator().manual_seed(2)
    for base in model.base:
        base.mean.data.copy_(torch.randn(base.mean.shape, generator=generator))
        base.log_scale.data.copy_(torch.randn(base.mean.shape, generator=generator))
    return model


@torch.no_grad()
@pytest.mark.parametrize("base", ["learned", "fitted"])
@pytest.mark.parametrize("name", METHODS)
def test_a_base_at_its_start_is_the_standard_normal_bit_by_bit(name, base):
    plain, based, features = build(name), build(name, base=base), draw(3)
    assert torch.equal(plain.log_likelihood(features), based.log_likelihood(features))
    assert torch.equal(plain.score(features).maps, based.score(features).maps)


def fold(step, base):
    """Write a base into the affine map at the end of a step, whose output ``k`` is its channel ``permutation[k]``."""
    sigma, mean = (x[step.inverse_permutation].view(1, -1, 1, 1) for x in (base.log_scale.exp(), base.mean))
    scale = step._scale() / sigma
    step.global_offset.copy_((step.global_offset - mean) / sigma)
    step.global_scale.copy_(2 * torch.log(torch.expm1(scale / 0.2)))  # inverts 0.1 * softplus with beta 0.5


@torch.no_grad()
def test_a_base_folds_into_the_last_step_of_fastflow():
    """So it adds no density to the family; what changes is how fast its scales move."""
    based, folded, features = with_any_base(build("fastflow", base="learned")), build("fastflow"), draw(4)
    for flow, base in zip(folded.flow, based.base, strict=True):
        fold(flow.module_list[-1], base)
    torch.testing.assert_close(folded.log_likelihood(features), based.log_likelihood(features), rtol=1e-12, atol=1e-12)
    for ours, other in zip(folded.latents(features)[0], based.latents(features)[0], strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(folded.score(features).maps, based.score(features).maps, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_the_log_determinant_with_a_base_is_that_of_autograd(name):
    shapes = [LevelShape(5, 4, 4), LevelShape(8, 2, 2)]
    model, features = with_any_base(build(name, shapes, base="learned")), draw(1, shapes)
    sizes = [math.prod(shape) for shape in shapes]

    def flat(x):
        parts = zip(x.split(sizes), shapes, strict=True)
        latents, _ = model.latents(Features([part.view(1, *shape) for part, shape in parts]))
        return torch.cat([z.flatten() for z in latents])

    jacobian = torch.autograd.functional.jacobian(flat, torch.cat([x.flatten() for x in features.levels]))
    torch.testing.assert_close(model.latents(features)[1][0], torch.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_positions_have_the_likelihood_of_the_image():
    model, features = with_any_base(build("fastflow", base="learned")), draw(3)
    found = list(model.position_log_likelihoods(features))
    total = sum(z.shape[1] * values.flatten(1).sum(1) for z, values in found)
    torch.testing.assert_close(total / model.dimensions, model.log_likelihood(features), rtol=1e-10, atol=1e-10)
    for (z, _), other in zip(found, model.latents(features)[0], strict=True):
        torch.testing.assert_close(z, other, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("name", METHODS)
def test_a_fitted_base_leaves_white_channels_and_is_the_best_one(name):
    model, features = build(name, base="fitted"), draw(20)
    before = model.log_likelihood(features).mean()
    batches = [Features([x[rows] for x in features.levels]) for rows in (slice(0, 7), slice(7, 20))]
    model.calibrate(lambda: batches)
    for z in model.latents(features)[0]:
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(z.shape[1], dtype=torch.double), atol=1e-10, rtol=0)
        torch.testing.assert_close(z.square().mean((0, 2, 3)), torch.ones(z.shape[1], dtype=torch.double))
    best = model.log_likelihood(features).mean()
    assert best > before + 0.01
    for base in model.base:
        for name_of in ("mean", "log_scale"):
            for move in (0.05, -0.05):
                getattr(base, name_of).add_(move)
                assert model.log_likelihood(features).mean() < best
                getattr(base, name_of).sub_(move)


def test_moments_are_those_of_numpy_and_a_still_channel_keeps_its_scale():
    z = torch.randn(5, 3, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    z[:, 2] = 7.0
    base = ChannelBase(3, trained=False).double()
    fit_bases([base], [[z[:2]], [z[2:]]])
    values = z.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(base.mean, values.mean(1), rtol=1e-12)
    np.testing.assert_allclose(base.log_scale[:2].exp(), values[:2].std(1), rtol=1e-12)
    assert base.log_scale[2] == 0


@torch.no_grad()
def test_training_goes_on_without_a_fitted_base():
    """Else it would depend on which epochs are kept, and the likelihood of held-out images on the one before."""
    model, features = build("uflow", base="fitted"), draw(6)
    plain = model.log_likelihood(features)
    model.calibrate(lambda: [features])
    assert not torch.allclose(model.eval().log_likelihood(features), plain, atol=1e-3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert torch.equal(model.train().eval().log_likelihood(features), plain)
    model.calibrate(lambda: [features])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_flow_and_learned_base_take_turns(name):
    model, generator = build(name, base="learned", epochs=10).train(), torch.Generator()
    for epoch in range(10):
        model.zero_grad()
        (loss,) = model.losses(Batch(draw(3), progress=epoch / 10), generator)
        loss.backward()
        of_flow = [p.grad is not None for p in model.flow.parameters()]
        of_base = [p.grad is not None for p in model.base.parameters()]
        turn = epoch in (4, 9)
        assert (any(of_flow), all(of_flow)) == (not turn, not turn)
        assert (any(of_base), all(of_base)) == (turn, turn)
        torch.testing.assert_close(loss, model.loss(draw(3)))
    assert [is_turn_of_base(epoch / 7, 7) for epoch in range(7)] == [False] * 4 + [True] + [False] * 2


def test_a_learned_base_arrives_at_the_fitted_one():
    model, fitted, features = build("fastflow", base="learned", epochs=5), build("fastflow", base="fitted"), draw(10)
    fitted.calibrate(lambda: [features])
    optimizer = torch.optim.Adam(model.base.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        (loss,) = model.losses(Batch(features, progress=0.8), torch.Generator())  # the fifth epoch is the base's
        loss.backward()
        optimizer.step()
    for ours, best in zip(model.base, fitted.base, strict=True):
        torch.testing.assert_close(ours.mean.detach(), best.mean, atol=1e-3, rtol=0)
        torch.testing.assert_close(ours.log_scale.detach(), best.log_scale, atol=1e-3, rtol=0)


def test_parameters_and_groups_of_the_base():
    model = build("uflow", base="learned", weight_decay=0.1)
    counts, plain = count_parameters(model), count_parameters(build("uflow"))
    channels = sum(shape[0] for shape in model.latent_shapes())
    assert counts == {**plain, "base": 2 * channels, "total": plain["total"] + 2 * channels}
    flow, base = model.optimizer_groups()
    assert (flow.lr_factor, flow.weight_decay, base.lr_factor, base.weight_decay) == (1.0, 0.1, 5.0, 0.0)
    assert sum(p.numel() for p in base.parameters) == 2 * channels
    assert count_parameters(build("uflow", base="fitted")) == plain


def alarms(model, features):
    """Images with a pixel of NFA < 1."""
    latents = model.score(features).latents
    return sum(bool((log_nfa([z[i] for z in latents], (32, 32)) < 0).any()) for i in range(len(features)))


@torch.no_grad()
def test_a_planted_scale_floods_the_number_of_false_alarms_and_a_fitted_base_undoes_it():
    """All latents of one level three times too large: every normal image has false alarms, with the base hardly one."""
    shapes = [LevelShape(16, 8, 8)]
    plain, fitted = (build("fastflow", shapes, moved=0.0, base=base) for base in ("standard", "fitted"))
    for model in (plain, fitted):
        last = model.flow[0].module_list[-1]
        last.global_scale.copy_(2 * torch.log(torch.expm1(3 * last._scale() / 0.2)))
    training, normal = draw(40, shapes), draw(40, shapes, seed=1)
    fitted.calibrate(lambda: [training])
    assert alarms(plain, normal) == 40
    assert alarms(fitted, normal) <= 4
