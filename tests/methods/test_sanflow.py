"""SANFlow: its distributions, what its losses teach, and where gradients flow."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.likelihood import to_fibres
from nfbench.blocks.method import Batch, LevelShape, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.methods.sanflow import (
    PRIOR_ALPHA,
    PRIOR_BETA,
    Fibres,
    Statistics,
    StatisticsNetwork,
    Variance,
    kl_to_prior,
    paper_loss,
    repository_loss,
)
from nfbench.scoring.predictions import predicted_variances

WRN_50 = [LevelShape(512, 32, 32), LevelShape(1024, 16, 16), LevelShape(2048, 8, 8)]
SHAPES = [LevelShape(6, 4, 4), LevelShape(8, 2, 2)]
SMALL = {"condition_dim": 8, "coupling_blocks": 2, "online_rotation": 0.0}
G = 0.5 * math.log(2 * math.pi)


def build(**overrides):
    settings = resolve_settings("sanflow", overrides={**SMALL, **overrides})
    return build_method("sanflow", SHAPES, settings, (16, 16), seed=0)


def draw(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image, *levels = (torch.randn(count, *shape, generator=generator) for shape in [(3, 16, 16), *SHAPES])
    return Features(levels, image)


def corner(count=3):
    """Masks with the upper left quarter anomalous, softly."""
    masks = torch.zeros(count, 16, 16)
    masks[:, :8, :8] = 0.3
    return masks


def losses(method, masks=None):
    return list(method.losses(Batch(draw(), masks), torch.Generator()))


@pytest.fixture
def positions():
    """Five positions of C = 6 with statistics of their own, the last two abnormal."""
    generator = torch.Generator().manual_seed(1)
    z, log_det = torch.randn(5, 6, generator=generator), torch.randn(5, generator=generator)
    log_alpha = torch.tensor([0.1, 2.0, 4.0, 3.0, 1.0], requires_grad=True)
    log_beta = torch.tensor([-1.0, 0.5, 1.8, 0.2, 2.0], requires_grad=True)
    abnormal = torch.tensor([False, False, False, True, True])
    return Fibres(z.requires_grad_(), log_det, abnormal), Statistics(Variance(log_alpha, log_beta), None)


def rows(values, chosen):
    """Of some positions; what is None stays None."""
    if isinstance(values, tuple):
        return type(values)(*(rows(value, chosen) for value in values))
    return None if values is None else values[chosen]


def test_parameter_counts_are_the_published_ones():
    counts = count_parameters(build_to_count("sanflow", WRN_50, resolve_settings("sanflow"), (256, 256)))
    assert counts == {"flow": 137_502_720, "statistics": 113_856, "total": 137_616_576}
    assert sum(p.numel() for p in StatisticsNetwork().parameters()) == 113_856


def test_mode_of_the_prior():
    log_alpha, log_beta = torch.tensor(PRIOR_ALPHA).log(), torch.tensor(PRIOR_BETA).log()
    assert pytest.approx(0.1, abs=1e-15) == PRIOR_BETA / (PRIOR_ALPHA + 1)
    assert Variance(log_alpha, log_beta).mode == pytest.approx(0.1, abs=1e-6)
    assert Variance(log_alpha, log_beta + 9).mode == 5  # bounded


def test_divergence_is_zero_at_the_prior_and_positive_elsewhere():
    prior = torch.tensor([PRIOR_ALPHA, PRIOR_BETA], dtype=torch.float64).log()
    assert float(kl_to_prior(*prior)) == pytest.approx(0, abs=1e-10)
    shift = torch.tensor([-1.0, -0.2, 0.3, 1.0], dtype=torch.float64)
    assert (kl_to_prior(prior[0] + shift, prior[1]) > 0).all()
    assert (kl_to_prior(prior[0], prior[1] + shift) > 0).all()


@pytest.mark.parametrize(("alpha", "beta"), [(3.0, 0.5), (59.5, 12.0), (200.0, 6.05)])
def test_divergence_equals_a_monte_carlo_estimate(alpha, beta):
    ours, prior = stats.invgamma(alpha, scale=beta), stats.invgamma(PRIOR_ALPHA, scale=PRIOR_BETA)
    variances = ours.rvs(400_000, random_state=0)
    ratios = ours.logpdf(variances) - prior.logpdf(variances)
    expected, error = ratios.mean(), ratios.std() / math.sqrt(len(ratios))
    found = kl_to_prior(*torch.tensor([alpha, beta], dtype=torch.float64).log())
    assert float(found) == pytest.approx(expected, abs=5 * error)


def expected_terms(statistics, distance):
    """Expected log-density of a normal variable whose variance is inverse gamma, by drawing variances."""
    alpha, beta = (float(value.detach().double().exp()) for value in statistics.variance)
    variances = stats.invgamma(alpha, scale=beta).rvs(400_000, random_state=0)
    return (-6 * G - 3 * torch.log(torch.tensor(variances)) - distance / (2 * torch.tensor(variances))).mean()


def test_paper_loss_is_the_expectation_of_the_slides(positions):
    for index in range(5):
        fibres, statistics = (rows(values, slice(index, index + 1)) for values in positions)
        loss = paper_loss(fibres, statistics, bce_weight=0, kl_weight=0)
        distance = float((fibres.z - fibres.abnormal.float()).detach().square().sum())
        assert -6 * float(loss.detach()) - float(fibres.log_det) == pytest.approx(
            float(expected_terms(statistics, distance)), rel=0.02
        )


def test_paper_loss_adds_classification_and_divergence(positions):
    (z, log_det, abnormal), ((log_alpha, log_beta), _) = positions
    z, log_det, log_alpha, log_beta = (value.double() for value in (z, log_det, log_alpha, log_beta))
    fibres, statistics = Fibres(z, log_det, abnormal), Statistics(Variance(log_alpha, log_beta), None)
    plain, whole = (paper_loss(fibres, statistics, *weights) for weights in ((0, 0), (0.2, 1.5)))
    # log p^n - log p^a has only the distances in it: alpha/(2 beta) (C - 2 sum z)
    logit = 0.5 * (log_alpha - log_beta).exp() * (6 - 2 * z.sum(1))
    bce = torch.where(abnormal, 1 + logit.exp(), 1 + (-logit).exp()).log().mean()
    expected = 0.2 * bce + 1.5 * kl_to_prior(log_alpha, log_beta).mean()
    assert (6 * (whole - plain)).item() == pytest.approx(expected.item(), rel=1e-4)


def test_repository_loss_follows_its_formula(positions):
    fibres, statistics = positions
    (z, log_det, abnormal), ((log_alpha, log_beta), _) = fibres, statistics
    alpha, beta = log_alpha.exp(), log_beta.exp()
    normal = -6 * G - 6 * (log_beta - torch.digamma(alpha)) - z.square().sum(1) * alpha / (2 * beta)
    v = (beta / (alpha + 1)).clamp(max=5)
    anomalous = -6 * G - (z - 1).square().sum(1) / (2 * v) - 3 * v.log()
    entropy = functional.cross_entropy(torch.stack([normal, anomalous], 1).softmax(1), abnormal.long())
    total = torch.where(abnormal, anomalous, normal) + log_det - kl_to_prior(log_alpha, log_beta) - 0.2 * entropy
    expected = -functional.logsigmoid(total / 6).mean()
    found = repository_loss(fibres, statistics, bce_weight=0.2, kl_weight=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", [paper_loss, repository_loss])
def test_gradients_at_abnormal_positions(positions, loss):
    (z, _, abnormal), ((log_alpha, log_beta), _) = positions
    loss(*positions, bce_weight=0.2, kl_weight=1).backward()
    assert (z.grad != 0).all()
    assert (log_alpha.grad != 0).all()
    assert (log_beta.grad[~abnormal] != 0).all()
    assert ((log_beta.grad[abnormal] == 0) == (loss is repository_loss)).all()


def test_alpha_at_abnormal_positions_learns_of_its_own_terms_only(positions):
    """In the repository's form: (alpha - a) psi(alpha) - ln Gamma(alpha) - alpha, divided by C, through the sigmoid."""
    fibres, ((log_alpha, log_beta), _) = (rows(values, slice(3, None)) for values in positions)
    log_alpha, log_beta = log_alpha.detach().requires_grad_(), log_beta.detach().requires_grad_()
    repository_loss(fibres, Statistics(Variance(log_alpha, log_beta), None), bce_weight=0, kl_weight=1).backward()
    z, log_det, _ = fibres
    free = log_alpha.detach().requires_grad_()
    alpha = free.exp()
    v = (log_beta.exp() / (log_alpha.exp() + 1)).clamp(max=5).detach()
    density = -6 * G - (z - 1).square().sum(1).detach() / (2 * v) - 3 * v.log()
    live = (alpha - PRIOR_ALPHA) * torch.digamma(alpha) - torch.lgamma(alpha) - alpha
    total = density + log_det - (live + (kl_to_prior(log_alpha, log_beta) - live).detach())
    (-functional.logsigmoid(total / 6).mean()).backward()
    torch.testing.assert_close(log_alpha.grad, free.grad)


def test_plain_likelihood_is_that_of_a_standard_normal_distribution():
    method = build(form="paper", mixture=False, variance="fixed")
    for (z, log_det), loss in zip(method.encode_levels(draw().levels), losses(method), strict=True):
        log_likelihood = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det
        torch.testing.assert_close(loss, -log_likelihood.mean() / z.shape[1])
    assert method.statistics is None
    assert not method.takes_anomalies
    assert all(torch.equal(a, b) for a, b in zip(losses(method), losses(method, corner()), strict=True))


def test_soft_masks_mark_positions():
    method = build()
    whole = (corner() > 0).float()
    assert all(torch.equal(a, b) for a, b in zip(losses(method, corner()), losses(method, whole), strict=True))
    assert not torch.equal(losses(method)[0], losses(method, corner())[0])


def test_statistics_stay_in_full_precision_under_autocast():
    method = build(form="paper")
    with torch.autocast("cpu", torch.bfloat16):
        predicted = method._predict(draw(), (4, 4)).variance
    assert predicted.log_alpha.dtype == predicted.log_beta.dtype == torch.float32


def test_every_loss_trains_its_level_and_the_statistics():
    method = build().train()
    for level, loss in enumerate(losses(method, corner())):
        method.zero_grad()
        loss.backward()
        trained = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {name.split(".")[1] for name in trained if name.startswith("flow.")} == {str(level)}
        assert any(name.startswith("statistics.") for name in trained)


@pytest.mark.parametrize(
    ("overrides", "outputs"),
    [({"mean": "estimated", "variance": "fixed"}, 3), ({"mean": "estimated"}, 3), ({}, 2)],
)
def test_ablations_have_the_outputs_that_they_need(overrides, outputs):
    method = build(**overrides)
    assert method.statistics.last.out_channels == outputs
    assert all(torch.isfinite(loss) for loss in losses(method, corner()))
    assert torch.isfinite(method.eval().score(draw()).maps).all()


def test_estimated_means_shift_the_latents():
    method = build(mean="estimated", variance="fixed").eval()
    shifted = method._predict(draw(), (4, 4)).mean
    (standard, log_likelihood), *_ = method.position_log_likelihoods(draw())
    z, log_det = next(method.encode_levels(draw().levels))
    torch.testing.assert_close(standard, z - shifted[:, None])
    expected = torch.distributions.Normal(shifted[:, None], 1.0).log_prob(z).sum(1) + log_det
    torch.testing.assert_close(log_likelihood, expected / 6)


def test_score_takes_the_mode_of_the_variance():
    method = build().eval()
    mode = method._predict(draw(), (4, 4)).variance.mode
    (_, log_likelihood), *_ = method.position_log_likelihoods(draw())
    z, log_det = next(method.encode_levels(draw().levels))
    expected = torch.distributions.Normal(0.0, mode.sqrt()[:, None]).log_prob(z).sum(1) + log_det
    torch.testing.assert_close(log_likelihood, expected / 6)


@pytest.mark.parametrize("variance", ["estimated", "fixed"])
def test_the_score_of_the_slides_is_the_expected_density_of_the_latents(variance):
    kwargs = {"variance": variance, "mean": "estimated"}
    method, default = build(score="expected", **kwargs).eval(), build(**kwargs).eval()
    z, _ = next(method.encode_levels(draw().levels))
    found, *_ = method.scored_positions(draw())
    assert all(torch.equal(*pair) for pair in zip(found[:1], next(default.scored_positions(draw()))[:1], strict=True))
    predicted = method._predict(draw(), (4, 4)).flatten()
    fibres = Fibres(to_fibres(z), torch.zeros(48), torch.zeros(48, dtype=torch.bool))
    for index, density in enumerate(found[1].flatten()):
        loss = paper_loss(rows(fibres, slice(index, index + 1)), rows(predicted, slice(index, index + 1)), 0, 0)
        torch.testing.assert_close(density, -loss)
    method.calibrate(lambda: [draw()])
    assert float(method.reference[0]) == pytest.approx(float(found[1].detach().max()), rel=1e-6)
    scores = [one.score(draw()).maps for one in (method, default)]
    assert not torch.allclose(*scores)
    torch.testing.assert_close(*(one.log_likelihood(draw()) for one in (method, default)))


@pytest.mark.parametrize("side", [None, 8])
def test_predicted_variances_are_modes_at_the_network_s_resolution(side):
    method = build(statistics_size=side).eval()
    images = draw()
    seen = images.image if side is None else functional.avg_pool2d(images.image, 2)
    alpha, beta = method.statistics(seen).exp().unbind(1)
    expected = (beta / (alpha + 1)).clamp(max=5).detach().numpy()[[2, 0]]
    found = predicted_variances(method, images, torch.device("cpu"), np.array([2, 0]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for other in (build(variance="fixed"), build(variance="fixed", mean="estimated")):
        assert predicted_variances(other, images, torch.device("cpu"), [0]) is None


def test_statistics_of_a_level_are_those_of_the_nearest_pixels():
    method = build().eval()
    image = draw().image
    raw = method.statistics(image)
    torch.testing.assert_close(method._predict(Features([], image), (4, 4)).variance.log_beta, raw[:, 1, ::4, ::4])
    small = build(statistics_size=8).eval()
    small.load_state_dict(method.state_dict())
    halved = small.statistics(functional.avg_pool2d(image, 2))
    torch.testing.assert_close(small._predict(Features([], image), (4, 4)).variance.log_beta, halved[:, 1, ::2, ::2])
