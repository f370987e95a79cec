"""HGAD against its formulas: counts, gradients, the sign of the entropy, and what the mixture learns."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, LevelShape, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.blocks.priors import MixturePrior, spread_centres
from nfbench.core.errors import NfbenchError
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

SHAPES = [LevelShape(8, 6, 6), LevelShape(12, 3, 3)]
SMALL = {"coupling_blocks": 2, "condition_dim": 8, "batch_size": 8, "val_fraction": 0.0, "checkpoints": 1}
N_CLASSES = 3


def build(n_classes=N_CLASSES, seed=0, shapes=SHAPES, **overrides):
    settings = resolve_settings("hgad", overrides={**SMALL, **overrides})
    return build_method("hgad", shapes, settings, (32, 32), seed, n_classes)


def features(classes, seed=0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(len(classes), *shape, generator=generator) for shape in shapes]
    return Features(levels, classes=torch.tensor(classes))


def losses(method, batch, progress):
    return list(method.losses(Batch(batch, None, progress), torch.Generator()))


def gradients(method, progress, **batch):
    method.zero_grad()
    sum(losses(method, features([0, 1, 2, 1]), progress)).backward()
    return {name: value.grad for name, value in method.named_parameters()}


@pytest.mark.parametrize(("classes", "prior"), [(15, 90_495), (12, 12 * 3 * (200 * 10 + 11)), (1, 3 * (200 * 10 + 11))])
def test_parameters_as_published(classes, prior):
    shapes = [LevelShape(200, side, side) for side in (64, 32, 16)]
    method = build_to_count("hgad", shapes, resolve_settings("hgad"), (1024, 1024), classes)
    assert count_parameters(method) == {"flow": 14_298_624, "prior": prior, "total": 14_298_624 + prior}


@pytest.mark.parametrize(("classes", "scale"), [(3, 0.434), (10, 0.791), (12, 0.870), (15, 0.981), (40, 1.581)])
def test_initial_centres(classes, scale):
    centres = spread_centres(classes, 200)
    assert float(centres.max()) == pytest.approx(scale, abs=5e-4)
    repeats = 200 // classes
    assert ((centres != 0).sum(1) == repeats).all()
    for number in range(classes):
        assert centres[number].nonzero().flatten().tolist() == [number + classes * k for k in range(repeats)]
    apart = torch.cdist(centres, centres)[~torch.eye(classes, dtype=torch.bool)]
    assert apart.min() > 4.5
    assert apart.max() < 5.5


def test_losses_are_the_formulas():
    """Term by term, position by position, with distributions of torch."""
    method = build(likelihood_weight=0.7, information_weight=3.0, entropy_weight=0.5)
    for prior in method.prior:
        torch.nn.init.normal_(prior.class_weights)
        torch.nn.init.normal_(prior.intra_weights)
    batch, classes = features([2, 0, 1]), [2, 0, 1]
    for level, loss in enumerate(losses(method, batch, 0.5)):
        prior = method.prior[level]
        (z, log_det) = list(method.encode_levels(batch.levels))[level]
        dim, expected = z.shape[1], []
        for image, y in enumerate(classes):
            for latent, jacobian in zip(z[image].flatten(1).T, log_det[image].flatten(), strict=True):
                energy = torch.stack([-0.5 * (latent - centre).square().sum() for centre in prior.centres])
                weights = functional.log_softmax(prior.class_weights, 0)
                inter = -(torch.logsumexp(energy + weights, 0) + jacobian) / dim
                label = torch.full((N_CLASSES,), 0.02 / N_CLASSES)
                label[y] += 0.98
                information = (label * (functional.log_softmax(energy + weights, 0) - weights)).sum()
                entropy = torch.distributions.Categorical(logits=energy).entropy()
                offsets = torch.cat([torch.zeros(1, dim), prior.offsets[y]])
                within = torch.stack([-0.5 * (latent - prior.centres[y] - offset).square().sum() for offset in offsets])
                log_p = torch.logsumexp(within + functional.log_softmax(prior.intra_weights[y], 0), 0) + jacobian
                extra = -functional.logsigmoid((log_p - 0.5 * dim * math.log(2 * math.pi)) / dim)
                expected.append(0.7 * inter - 3.0 * information + 0.5 * entropy - log_p / dim + extra)
        torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


def test_latents_far_from_all_centres_are_no_explosion(tmp_path):
    """Features of a large scale: with lambda2 = 100 the first loss is in the thousands, and training goes on."""
    shapes = [LevelShape(8, 4, 4)]
    classes = np.repeat(np.arange(N_CLASSES), 8)
    x = (12 * np.random.default_rng(0).normal(size=(24, 8, 4, 4))).astype(np.float16)
    method = build(shapes=shapes, epochs=3, lr=2e-3)
    data = TrainingData(Features([x], classes=classes), 0.0, 0, torch.device("cpu"))
    batch = Features([torch.from_numpy(x).float()], classes=torch.from_numpy(classes))
    first = next(method.losses(Batch(batch), None))
    assert first > 1e3
    history = train(method, data, method.settings, SideFolder(tmp_path, "far"), "far", math.inf).history
    assert history[-1]["loss"] < history[0]["loss"] < 1e3


@pytest.mark.parametrize("number", [2, 5])
def test_losses_within_classes_begin_with_their_meta_epoch(number):
    method = build(intra_from=number)
    assert resolve_settings("hgad").intra_from == 2
    early, late = gradients(method, (number - 0.01) / 25), gradients(method, number / 25)
    assert early["prior.0.offsets"] is None
    assert early["prior.0.intra_weights"] is None
    assert late["prior.0.offsets"].abs().sum() > 0
    assert late["prior.0.intra_weights"].abs().sum() > 0


def test_losses_within_classes_leave_the_centres_alone():
    """Stop-gradient: with all other losses off, centres and class weights get none, everything else does."""
    method = build(likelihood_weight=0, information_weight=0, entropy_weight=0)
    found = gradients(method, 0.5)
    for level in range(len(SHAPES)):
        for name in ("centres", "class_weights"):
            grad = found[f"prior.{level}.{name}"]
            assert grad is None or not grad.any()
        assert found[f"prior.{level}.offsets"].abs().sum() > 0
    assert sum(grad.abs().sum() for name, grad in found.items() if name.startswith("flow.0")) > 0


def test_the_extra_loss_is_that_of_the_likelihood_within_classes():
    batch = features([0, 1, 2])
    both, without = (losses(build(extra_loss=extra), batch, 0.5) for extra in (True, False))
    likelihoods = [values for _, values in build().position_log_likelihoods(batch)]
    for level, values in enumerate(likelihoods):
        torch.testing.assert_close(both[level] - without[level], -functional.logsigmoid(values).mean())


def test_class_weights_learn_through_the_likelihood_alone():
    method = build(likelihood_weight=0, intra_centres=0)
    grad = gradients(method, 0.0)["prior.0.class_weights"]
    assert grad is None or not grad.any()
    assert gradients(build(), 0.0)["prior.0.class_weights"].abs().sum() > 0


def test_fixed_centres_are_not_trained():
    method = build(prior="fixed")
    assert not method.prior[0].centres.requires_grad
    assert "prior.0.class_weights" not in dict(method.named_parameters())
    only = build(prior="fixed", intra_centres=0)
    assert set(count_parameters(only)) == {"flow", "total"}


def test_without_classes_it_is_a_standard_flow():
    off = {"information_weight": 0, "entropy_weight": 0, "intra_centres": 0, "criterion": "likelihood"}
    method = build(prior="standard", **off)
    batch = features([0, 1])
    for (z, log_det), loss in zip(method.encode_levels(batch.levels), losses(method, batch, 0.5), strict=True):
        expected = (0.5 * z.square().sum(1) - log_det).mean() / z.shape[1]
        torch.testing.assert_close(loss, expected)
    with pytest.raises(NfbenchError, match="prior 'standard' needs 'information_weight: 0'"):
        build(prior="standard")


@pytest.mark.parametrize("criterion", ["entropy", "both"])
def test_high_entropy_is_anomalous(criterion):
    """Latents between two centres are uncertain; the flows are replaced, so that a position's latent is its feature."""
    method = build(n_classes=2, criterion=criterion, smoothing=0.0)
    method.encode_levels = lambda levels: ((x, torch.zeros(len(x), *x.shape[2:])) for x in levels)
    levels = [method.prior[n].centres[0][:, None, None].repeat(1, h, w)[None] for n, (_, h, w) in enumerate(SHAPES)]
    levels = [x.detach().repeat(4, 1, 1, 1) for x in levels]
    normal = Features(levels, classes=torch.zeros(4, dtype=torch.int64))
    method.calibrate(lambda: [normal])
    uncertain = normal.map(torch.clone)
    for n, x in enumerate(uncertain.levels):
        x[:, :, 0, 0] = method.prior[n].centres.detach().mean(0)
    found = method.criteria(uncertain)
    assert (found.entropy[0][:, 0, 0] == found.entropy[0].flatten(1).amin(1)).all()
    assert float(-found.entropy[0][0, 0, 0].detach()) == pytest.approx(math.log(2), abs=1e-5)
    scores = method.score(uncertain)
    assert (scores.images > method.score(normal).images + 1e-3).all()
    assert int(scores.maps[0].argmax()) == 0


def test_the_map_is_the_product_as_published():
    method = build().double()
    batch = features([1, 1, 1], seed=3)
    batch = replace(batch, levels=[x.double() for x in batch.levels])
    method.calibrate(lambda: [batch])
    found = method.criteria(batch)
    maps = []
    for levels in found:
        total = 0
        for level in levels:
            normality = (level - level.max()).exp()
            total = (
                total + functional.interpolate(normality[:, None], (32, 32), mode="bilinear", align_corners=True)[:, 0]
            )
        maps.append(torch.from_numpy(gaussian_filter((total.max() - total).detach().numpy(), (0, 0.5, 0.5))))
    torch.testing.assert_close(method.score(batch).maps, maps[0] * maps[1])
    torch.testing.assert_close(method.score(batch).images, (maps[0] * maps[1]).flatten(1).amax(1))


def test_maps_of_a_smaller_side_are_resized_at_the_end():
    """And the score is the maximum before, as published at 256 pixels."""
    batch = features([1, 1, 1], seed=3)
    whole, half = build(), build(map_side=16)
    half.map_size = (16, 16)
    expected = half.score(batch)
    half.map_size = whole.map_size
    found = half.score(batch)
    assert found.maps.shape == (3, 32, 32)
    torch.testing.assert_close(found.images, expected.images)
    resized = functional.interpolate(expected.maps[:, None], (32, 32), mode="bilinear")[:, 0]
    torch.testing.assert_close(found.maps, resized)
    assert not torch.allclose(whole.score(batch).images, found.images)


def test_maxima_are_those_of_the_own_class():
    """Calibrating with more images of class 1 changes no score of class 0."""
    method = build()
    of_0, of_1 = features([0, 0, 0], seed=1), features([1, 1], seed=2)
    method.calibrate(lambda: [of_0])
    alone = method.score(of_0)
    method.calibrate(lambda: [of_0, of_1])
    torch.testing.assert_close(method.score(of_0).maps, alone.maps)
    untouched = method.reference[..., 2].clone()
    method.calibrate(lambda: [of_1])
    torch.testing.assert_close(method.score(of_0).maps, alone.maps)
    assert (method.reference[..., 2] == untouched).all()


def test_one_class_is_scored_by_likelihood():
    method = build(n_classes=1)
    assert method.criterion == "likelihood"
    batch = features([0, 0])
    method.calibrate(lambda: [batch])
    assert method.score(batch).images.min() > 0


def test_more_classes_than_channels_are_refused():
    with pytest.raises(NfbenchError, match="9 classes are too many for a level of 8 channels"):
        build(n_classes=9)


def test_posterior_recovers_the_labels_of_clusters(tmp_path):
    """Three clusters of fibres that overlap in no direction: after training, each position's class is the image's."""
    rng = np.random.default_rng(0)
    shapes = [LevelShape(8, 4, 4)]
    means = 2 * rng.normal(size=(N_CLASSES, 8, 1, 1))
    classes = np.repeat(np.arange(N_CLASSES), 20)
    x = (means[classes] + 0.3 * rng.normal(size=(60, 8, 4, 4))).astype(np.float16)
    method = build(shapes=shapes, epochs=40, lr=1e-2)
    data = TrainingData(Features([x], classes=classes), 0.0, 0, torch.device("cpu"))
    train(method, data, method.settings, SideFolder(tmp_path, "clusters"), "clusters", math.inf)
    method.eval()
    fresh = torch.from_numpy(means[classes] + 0.3 * rng.normal(size=(60, 8, 4, 4))).float()
    with torch.no_grad():
        ((z, _),) = method.encode_levels([fresh])
        posterior = method.prior[0].class_energies(z.flatten(2).transpose(1, 2)).argmax(2)
    assert (posterior == torch.from_numpy(classes)[:, None]).float().mean() > 0.98


def test_energies_within_a_class():
    """Against one Gaussian mixture of torch per class."""
    prior = MixturePrior(2, 5, 4, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(prior.intra_weights)
    z, classes = torch.randn(3, 7, 5), torch.tensor([1, 0, 1])
    found = prior.conditional(z, classes)
    for image, y in enumerate(classes.tolist()):
        offsets = torch.cat([torch.zeros(1, 5), prior.offsets[y]])
        components = torch.distributions.MultivariateNormal(prior.centres[y] + offsets, torch.eye(5))
        weights = torch.distributions.Categorical(logits=prior.intra_weights[y])
        mixture = torch.distributions.MixtureSameFamily(weights, components)
        expected = mixture.log_prob(z[image]) + 2.5 * math.log(2 * math.pi)
        torch.testing.assert_close(found[image], expected)
