"""Flow steps: inverse, log-determinant against autograd, the two clamp rules, permutations, gradients."""

import math

import pytest
import torch
from FrEIA.modules import IRevNetUpsampling

from nfbench.blocks.all_in_one import AllInOneStep
from nfbench.blocks.subnets import conv_subnet, fc_subnet
from nfbench.blocks.upsampling import InvertibleUpsampling

SHAPES = [(6, 3, 4), (7, 2, 3), (2, 4, 4), (8,), (5,)]
CONDITIONS = [0, 3]
COUPLINGS = ["affine", "additive", "gin"]


def make_step(shape, condition=0, **options):
    subnet = conv_subnet(3) if len(shape) == 3 else fc_subnet()
    dims_c = [(condition, *shape[1:])] if condition else []
    step = AllInOneStep([shape], dims_c, subnet=subnet, generator=torch.Generator().manual_seed(0), **options)
    with torch.no_grad():  # away from the identity, so that scale and offset take part
        step.global_scale += torch.randn_like(step.global_scale)
        step.global_offset += torch.randn_like(step.global_offset)
        for parameter in step.subnet.parameters():
            parameter.mul_(6)
    return step.double()


def make_input(shape, condition=0, batch=2):
    x = torch.randn(batch, *shape, dtype=torch.float64)
    c = [torch.randn(batch, condition, *shape[1:], dtype=torch.float64)] if condition else []
    return x, c


def jacobian_log_det(function, x):
    """log|det J| of each sample by autograd, the slow definition."""
    rows = torch.autograd.functional.jacobian(lambda flat: function(flat.view_as(x)).flatten(1).sum(0), x.flatten(1))
    return torch.stack([torch.linalg.slogdet(rows[:, sample]).logabsdet for sample in range(len(x))])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("permutation", ["hard", "soft"])
@pytest.mark.parametrize("clamp_rule", ["outer", "inner"])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inverse_and_log_det(shape, coupling, condition, clamp_rule, permutation):
    step = make_step(shape, condition, clamp_rule=clamp_rule, permutation=permutation, coupling=coupling)
    x, c = make_input(shape, condition)
    (y,), log_det = step((x,), c)
    (back,), inverse_log_det = step((y,), c, rev=True)
    close = {"atol": 1e-5, "rtol": 1e-5} if permutation == "soft" else {}  # the rotation is stored in float32
    torch.testing.assert_close(back, x, **close)
    torch.testing.assert_close(inverse_log_det, -log_det, **close)
    torch.testing.assert_close(log_det, jacobian_log_det(lambda v: step((v,), c)[0][0], x), **close)
    assert log_det.abs().min() > 1e-3


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_parameter_gets_a_gradient(shape, coupling):
    if coupling == "gin" and shape[0] < 4:
        pytest.skip("one active channel has no scale of its own")
    step = make_step(shape, coupling=coupling)
    x, _ = make_input(shape)
    (y,), log_det = step((x,))
    (0.5 * y.square().flatten(1).sum(1) - log_det).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in step.parameters())


@pytest.mark.parametrize("permutation", ["hard", "soft"])
@pytest.mark.parametrize("clamp_rule", ["outer", "inner"])
@pytest.mark.parametrize("shape", [(4, 2, 2), (3, 1, 2), (5,)], ids=str)
def test_gradients_agree_with_finite_differences(shape, clamp_rule, permutation):
    step = make_step(shape, clamp_rule=clamp_rule, permutation=permutation)
    x, _ = make_input(shape)

    def through(*tensors):
        (y,), log_det = torch.func.functional_call(step, dict(zip(names, tensors[1:], strict=True)), ((tensors[0],),))
        return y, log_det

    names = [name for name, _ in step.named_parameters()]
    parameters = [parameter.detach().clone().requires_grad_() for parameter in step.parameters()]
    assert torch.autograd.gradcheck(through, (x.requires_grad_(), *parameters))


@pytest.mark.parametrize("coupling", ["additive", "gin"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_volume_does_not_depend_on_the_input(shape, coupling):
    """The log-determinant equals that of the global scale exactly, and is 0 for a step without scale."""
    step = make_step(shape, coupling=coupling)
    x, _ = make_input(shape, batch=5)
    (_, log_det), scale = step((x,)), 0.1 * torch.nn.functional.softplus(step.global_scale, beta=0.5)
    assert torch.equal(log_det, log_det[:1].expand(5))
    torch.testing.assert_close(log_det[0], math.prod(shape[1:]) * scale.log().sum())
    step._scale = lambda: torch.ones_like(scale)
    assert not step((x,))[1].any()
    assert not step((x,), rev=True)[1].any()


def test_additive_is_the_limit_of_affine_without_scales():
    additive = make_step((6, 3, 4), coupling="additive")
    affine = make_step((6, 3, 4), clamp=1e-9)
    affine.load_state_dict({**affine.state_dict(), "global_scale": additive.global_scale.detach()})
    with torch.no_grad():
        affine.global_offset.copy_(additive.global_offset)
        affine.subnet[0].load_state_dict(additive.subnet[0].state_dict())
        affine.subnet[2].weight[3:], affine.subnet[2].bias[3:] = additive.subnet[2].weight, additive.subnet[2].bias
    x, _ = make_input((6, 3, 4))
    torch.testing.assert_close(affine((x,))[0][0], additive((x,))[0][0], atol=1e-7, rtol=1e-7)


def test_gin_has_log_scales_that_sum_to_0():
    step = make_step((6, 3, 4), coupling="gin")
    s, _ = step._log_scale_and_shift(step.subnet(make_input((6, 3, 4))[0][:, :3]))
    assert s.abs().max() > 0.1
    torch.testing.assert_close(s.sum(1), torch.zeros_like(s[:, 0]))


@pytest.mark.parametrize(("rule", "slope"), [("outer", 1.9), ("inner", 1.0)])
def test_clamp_rules_differ_in_their_slope_at_zero(rule, slope):
    """The slope at 0 is clamp for s = clamp * tanh(r) and 1 for s = clamp * tanh(r / clamp); both stay below clamp."""
    step = AllInOneStep([(2,)], subnet=fc_subnet(), clamp=1.9, clamp_rule=rule).double()
    for raw, expected in ((1e-4, slope * 1e-4), (1e4, 1.9)):
        last = step.subnet[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.tensor([10 * raw, 0.0]))  # the subnet's output is multiplied by 0.1
        _, log_det = step((torch.zeros(1, 2, dtype=torch.float64),))
        assert log_det.item() == pytest.approx(expected, rel=1e-3)


def test_scale_starts_at_one_and_passive_channels_pass():
    step = AllInOneStep([(5, 2, 2)], subnet=conv_subnet(1), generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 5, 2, 2)
    (y,), _ = step((x,))
    unpermuted = y[:, step.inverse_permutation]
    torch.testing.assert_close(unpermuted[:, :3], x[:, :3])
    assert not torch.allclose(unpermuted[:, 3:], x[:, 3:])


def test_rotation_is_in_so():
    rotation = make_step((6, 2, 2), permutation="soft").rotation
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(6, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("permutation", ["hard", "soft"])
def test_low_precision_is_for_the_subnet_only(permutation):
    step = AllInOneStep([(6, 4, 4)], subnet=conv_subnet(3), permutation=permutation)
    x = torch.randn(2, 6, 4, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        (y,), log_det = step((x,))
    (y.square().sum() - log_det.sum()).backward()
    assert y.dtype == log_det.dtype == x.grad.dtype == torch.float32
    torch.testing.assert_close(y, step((x,))[0][0], atol=0.02, rtol=0.02)


def test_same_generator_state_gives_same_permutation():
    first, second, third = (
        AllInOneStep([(64,)], subnet=fc_subnet(), generator=torch.Generator().manual_seed(seed)).permutation
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize(
    ("channels", "kernel", "count"),
    [(64, 3, 27_872), (128, 3, 111_040), (256, 3, 443_264), (512, 3, 1_771_264), (768, 3, 3_984_000),
     (64, 1, 3_296), (128, 1, 12_736), (256, 1, 50_048), (512, 1, 198_400), (768, 1, 445_056), (1024, 1, 790_016)],
)  # fmt: skip
def test_parameter_count_of_one_step(channels, kernel, count):
    step = AllInOneStep([(channels, 2, 2)], subnet=conv_subnet(kernel))
    assert sum(parameter.numel() for parameter in step.parameters() if parameter.requires_grad) == count


@pytest.mark.parametrize(("channels", "kernel"), [(64, 3), (256, 1)])
def test_parameter_count_of_one_additive_step(channels, kernel):
    step = AllInOneStep([(channels, 2, 2)], subnet=conv_subnet(kernel), coupling="additive")
    assert sum(parameter.numel() for parameter in step.parameters()) == kernel**2 * channels**2 // 2 + 3 * channels


def test_fully_connected_step_counts_as_in_cflow():
    step = AllInOneStep([(256,)], [(128,)], subnet=fc_subnet())
    d = 128 + 128
    assert sum(p.numel() for p in step.parameters()) == 2 * d * (d + 256 + 1) + 3 * 256


@pytest.mark.parametrize(
    ("dims_in", "dims_c", "message"),
    [([(1, 2, 2)], [], "at least 2 channels"), ([(4, 2, 2)], [(3, 2, 1)], "differ in size")],
)
def test_impossible_shapes_are_refused(dims_in, dims_c, message):
    with pytest.raises(ValueError, match=message):
        AllInOneStep(dims_in, dims_c, subnet=conv_subnet(1))


def test_upsampling_is_freias_and_keeps_volume():
    x = torch.randn(2, 8, 3, 4)
    ours = InvertibleUpsampling([(8, 3, 4)])
    (y,), log_det = ours((x,))
    (peer,), _ = IRevNetUpsampling([(8, 3, 4)])((x,))
    torch.testing.assert_close(y, peer)
    assert torch.equal(ours((y,), rev=True)[0][0], x)
    assert log_det.shape == (2,)
    assert not log_det.any()
    assert ours.output_dims([(8, 3, 4)]) == [tuple(y.shape[1:])]


def test_upsampling_refuses_channels_that_four_does_not_divide():
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        InvertibleUpsampling([(6, 2, 2)])


def test_global_scale_of_one_is_the_published_value():
    step = AllInOneStep([(2,)], subnet=fc_subnet())
    assert step.global_scale.flatten()[0].item() == pytest.approx(2 * math.log(math.e**5 - 1), rel=1e-6)
    assert step.global_scale.flatten()[0].item() == pytest.approx(9.98648, abs=1e-5)
