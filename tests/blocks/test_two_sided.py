"""Two-sided couplings and cross-scale nets: inverse, log-determinant against autograd, parity with FrEIA, start."""

import math

import pytest
import torch
from FrEIA.modules import GLOWCouplingBlock

from nfbench.blocks.cross_scale import cross_scale_subnet
from nfbench.blocks.glow import TwoSidedFlow, TwoSidedStep, mlp_subnet, permute

PYRAMIDS = [[(5, 4, 4), (5, 2, 2), (5, 1, 1)], [(4, 2, 4), (4, 1, 2)], [(3, 3, 2)], [(2, 4, 4), (2, 2, 2)]]
VECTORS = [[(6,)], [(5,)], [(2,)]]


def make_flow(dims_in, kernels=(3, 1, 5), seed=0, **options):
    """A flow in float64 whose nets are far from their initialization, with nonzero gamma."""
    if len(dims_in[0]) == 3:
        subnets = [cross_scale_subnet(len(dims_in), kernel, 6) for kernel in kernels]
    else:
        subnets = [mlp_subnet(8, 3)] * len(kernels)
    flow = TwoSidedFlow(dims_in, subnets=subnets, generator=torch.Generator().manual_seed(seed), **options)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return flow.double()


def make_input(dims_in, batch=2):
    return [torch.randn(batch, *shape, dtype=torch.float64) for shape in dims_in]


def flat(tensors):
    return torch.cat([value.flatten(1) for value in tensors], dim=1)


def unflat(row, dims_in):
    parts = row.split([math.prod(shape) for shape in dims_in])
    return [part.view(1, *shape) for part, shape in zip(parts, dims_in, strict=True)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dims_in", PYRAMIDS + VECTORS, ids=str)
def test_inverse_and_log_det(dims_in):
    flow, x = make_flow(dims_in), make_input(dims_in)
    y, log_det = flow(x)
    back, inverse_log_det = flow(y, rev=True)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(inverse_log_det, -log_det)
    for row, found in zip(flat(x), log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flat(flow(unflat(v, dims_in))[0]).squeeze(0), row)
        torch.testing.assert_close(found, torch.linalg.slogdet(jacobian).logabsdet)
    assert log_det.abs().min() > 1e-3
    assert [v.shape for v in y] == [v.shape for v in x]


@pytest.mark.parametrize("dims_in", PYRAMIDS[:1] + VECTORS[:1], ids=str)
def test_every_scale_and_channel_is_transformed_by_one_step(dims_in):
    flow, x = make_flow(dims_in, kernels=(3,)), make_input(dims_in)
    permuted = [v[:, order] for v, order in zip(x, flow.steps[0].permutations, strict=True)]
    for before, after in zip(permuted, flow(x)[0], strict=True):
        change = (after - before).abs().reshape(*after.shape[:2], -1)
        assert (change.amax((0, 2)) > 1e-3).all()


@pytest.mark.parametrize("shape", [(6,), (4, 3, 3)], ids=str)
def test_coupling_is_freias(shape):
    """FrEIA's own block, with the published clamp rule given to it as a function."""

    class OfOne(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net([x])[0]

    (step,) = make_flow([shape], kernels=(3,)).steps
    peer = GLOWCouplingBlock(
        [shape], subnet_constructor=lambda *_: None, clamp=3.0, clamp_activation=lambda u: 0.636 * torch.atan(u / 3)
    )
    peer.subnet1, peer.subnet2 = OfOne(step.net1), OfOne(step.net2)
    (x,) = make_input([shape])
    (y,), log_det = step([x])
    (expected,), expected_log_det = peer((x[:, step.permutations[0]],))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(log_det, expected_log_det)


@pytest.mark.parametrize("dims_in", PYRAMIDS, ids=str)
def test_cross_scale_flow_starts_as_a_permutation(dims_in):
    subnets = [cross_scale_subnet(len(dims_in), kernel, 6) for kernel in (3, 5)]
    flow = TwoSidedFlow(dims_in, subnets=subnets, generator=torch.Generator().manual_seed(0)).double()
    x = make_input(dims_in)
    y, log_det = flow(x)
    assert not log_det.any()
    first, second = (step.permutations for step in flow.steps)
    for scale, (before, after) in enumerate(zip(x, y, strict=True)):
        assert torch.equal(after, before[:, first[scale]][:, second[scale]])


def test_cross_scale_net_is_its_formula():
    """Written out for three scales without shared code, with the sums from neighbours by hand."""
    net = cross_scale_subnet(3, 3, 4)(2, 5).double()
    x = make_input([(2, 8, 4), (2, 4, 2), (2, 2, 1)])
    with torch.no_grad():
        net.gamma.copy_(torch.tensor([1.0, 2.0, -3.0]))
    h = [torch.where(v > 0, v, 0.1 * v) for v in (enter(value) for enter, value in zip(net.enter, x, strict=True))]
    up = [torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)(v) for v in h]
    expected = [
        net.leave[0](h[0]) + net.from_coarser[0](up[1]),
        2 * (net.leave[1](h[1]) + net.from_coarser[1](up[2]) + net.from_finer[0](h[0])),
        -3 * (net.leave[2](h[2]) + net.from_finer[1](h[1])),
    ]
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("kernel", [3, 5])
def test_parameter_count_of_one_cross_scale_net(kernel):
    with torch.device("meta"):
        net = cross_scale_subnet(3, kernel, 1024)(152, 304)
    assert sum(parameter.numel() for parameter in net.parameters()) == 2_646_016 * kernel**2 + 5_203


def test_parameter_count_of_differnets_net():
    with torch.device("meta"):
        net = mlp_subnet(2048, 3)(384, 768)
    assert sum(parameter.numel() for parameter in net.parameters()) == 10_754_816


@pytest.mark.parametrize("dims_in", [PYRAMIDS[0], VECTORS[0]], ids=str)
def test_every_parameter_gets_a_gradient(dims_in):
    flow = make_flow(dims_in)
    flow.negative_log_likelihood(make_input(dims_in)).mean().backward()
    without = [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


@pytest.mark.parametrize("dims_in", [PYRAMIDS[1], VECTORS[1]], ids=str)
def test_gradients_agree_with_finite_differences(dims_in):
    flow = make_flow(dims_in, kernels=(3,))
    names = [name for name, _ in flow.named_parameters() if not name.endswith("weight")]
    parameters = [flow.get_parameter(name).detach().clone().requires_grad_() for name in names]
    x = [value.requires_grad_() for value in make_input(dims_in)]

    def through(*tensors):
        own = dict(zip(names, tensors[len(x) :], strict=True))
        y, log_det = torch.func.functional_call(flow, own, (list(tensors[: len(x)]),))
        return *y, log_det

    assert torch.autograd.gradcheck(through, (*x, *parameters))


def test_negative_log_likelihood_is_that_of_the_standard_normal():
    flow, x = make_flow(PYRAMIDS[0]), make_input(PYRAMIDS[0])
    latents, log_det = flow(x)
    density = torch.distributions.Normal(0, 1).log_prob(flat(latents)).sum(1) + log_det
    expected = -density / (5 * 21) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(flow.negative_log_likelihood(x), expected)


def test_log_scale_rises_by_0636_at_zero_and_stays_within_the_clamp():
    step = TwoSidedStep([(2,)], subnet=mlp_subnet(3, 1), generator=torch.Generator(), clamp=3.0).double()
    for raw, expected in ((1e-4, 0.636e-4), (1e9, 3 * 0.636 * math.pi / 2)):
        with torch.no_grad():
            for net in (step.net1, step.net2):
                net[-1].weight.zero_()
                net[-1].bias.copy_(torch.tensor([raw, 0.0]))
        _, log_det = step([torch.zeros(1, 2, dtype=torch.float64)])
        assert log_det.item() == pytest.approx(2 * expected, rel=1e-6)
        assert log_det.item() < 2 * 3


def test_far_inputs_stay_finite():
    flow = make_flow(VECTORS[0])
    (y,), log_det = flow([torch.full((1, 6), 1e30, dtype=torch.float64)])
    assert y.abs().max() == 1e6
    assert log_det.isfinite().all()


def test_permutations_differ_by_scale_and_step_and_follow_the_generator():
    dims_in = [(64, 4, 4), (64, 2, 2), (64, 1, 1)]
    first, same, other = (make_flow(dims_in, kernels=(1, 1), seed=seed) for seed in (3, 3, 4))
    orders = [order for step in first.steps for order in step.permutations]
    assert len({tuple(order.tolist()) for order in orders}) == 6
    assert all(torch.equal(order.sort().values, torch.arange(64)) for order in orders)
    for ours, theirs, different in zip(first.steps, same.steps, other.steps, strict=True):
        assert torch.equal(ours.permutations, theirs.permutations)
        assert not torch.equal(ours.permutations, different.permutations)


@pytest.mark.parametrize("dims_in", [PYRAMIDS[0], VECTORS[0]], ids=str)
def test_low_precision_is_for_the_nets_only(dims_in):
    flow = make_flow(dims_in).float()
    x = [v.float().requires_grad_() for v in make_input(dims_in)]
    with torch.autocast("cpu", torch.bfloat16):
        y, log_det = flow(x)
    (flat(y).square().sum() - log_det.sum()).backward()
    assert {v.dtype for v in (*y, log_det, *(v.grad for v in x))} == {torch.float32}
    assert not torch.equal(flat(y), flat(flow(x)[0]))
    torch.testing.assert_close(flat(y), flat(flow(x)[0]), atol=0.2, rtol=0.1)


@pytest.mark.parametrize(
    ("dims_in", "dims_c", "message"),
    [
        ([(1, 2, 2)], [], "at least 2"),
        ([(4, 2, 2), (6, 1, 1)], [], "same number of channels"),
        ([(4,)], [(3,)], "takes no condition"),
    ],
)
def test_impossible_shapes_are_refused(dims_in, dims_c, message):
    with pytest.raises(ValueError, match=message):
        TwoSidedStep(dims_in, dims_c, subnet=mlp_subnet(4, 1), generator=torch.Generator())


def test_permutations_are_taken_back_by_their_gradient():
    x = torch.randn(2, 5, 3, requires_grad=True)
    order = torch.randperm(5)
    gradient = torch.randn(2, 5, 3)
    (ours,) = permute([x], order[None], order.argsort()[None])
    theirs = x.index_select(1, order)
    assert torch.equal(ours, theirs)
    found, expected = (torch.autograd.grad(y, x, gradient, retain_graph=True)[0] for y in (ours, theirs))
    assert torch.equal(found, expected)
    assert torch.autograd.gradgradcheck(
        lambda value: permute([value.square()], order[None], order.argsort()[None])[0], x.double()
    )
