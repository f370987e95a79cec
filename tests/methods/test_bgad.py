"""BGAD and NFAD: boundary, focal weights, semi-push-pull, and the losses of each kind of batch."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.likelihood import log_density, to_fibres
from nfbench.blocks.method import Batch, LevelShape, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.methods.bgad import abnormal_weight, normal_weight, semi_push_pull
from nfbench.training.data import TrainingData

B6 = [LevelShape(40, 64, 64), LevelShape(72, 32, 32), LevelShape(200, 16, 16)]
SHAPES = [LevelShape(6, 8, 8), LevelShape(8, 4, 4)]
SMALL = {"condition_dim": 8, "coupling_blocks": 2, "fibre_batch": 64}
LATER = 0.5


def build(method="bgad", **overrides):
    return build_method(method, SHAPES, resolve_settings(method, overrides={**SMALL, **overrides}), (16, 16), 0).train()


def batch(progress=LATER, masks=None, count=4):
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(count, *shape, generator=generator) for shape in SHAPES]
    return Batch(Features(levels), masks, progress)


def masks_of(*anomalous, count=4):
    """Masks of a batch in which some images are anomalous in their upper left quarter."""
    masks = torch.zeros(count, 16, 16)
    masks[list(anomalous), :8, :8] = 1
    return masks


def boundary_of(q, abnormal, beta):
    normal = q[~abnormal].detach().sort().values
    return normal[int(beta * len(normal))]


def losses(method, given):
    return torch.stack(list(method.losses(given, torch.Generator().manual_seed(3))))


@pytest.mark.parametrize("method", ["bgad", "nfad"])
def test_parameter_count_is_that_of_the_repository(method):
    counts = count_parameters(build_to_count(method, B6, resolve_settings(method), (256, 256)))
    assert counts == {"flow": 2_641_920, "total": 2_641_920}


@pytest.mark.parametrize("method", ["bgad", "nfad"])
@pytest.mark.parametrize(("images", "seen"), [(60, [32]), (64, [32, 32]), (20, [20])])
def test_an_incomplete_batch_is_left_out_unless_it_is_the_only_one(method, images, seen):
    settings = resolve_settings(method, overrides={"val_fraction": 0})
    features = Features([np.zeros((images, 2, 1, 1), np.float16)])
    data = TrainingData(features, settings.val_fraction, 0, torch.device("cpu"))
    batches = data.batches(1, settings.batch_size, settings.drop_last)
    assert [len(given.features) for given in batches] == seen


def test_focal_weights_at_their_joins_and_beyond():
    at = torch.tensor([-0.1999, -0.2, -0.2001, -1.0, -2.0])
    weights = normal_weight(at)
    assert weights[0] == 1
    assert weights[2] == pytest.approx(0.996, abs=1e-3)
    expected = [11.7 * math.sqrt(1 - math.exp(float(q))) * abs(float(q)) for q in at[1:]]
    torch.testing.assert_close(weights[1:], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    at = torch.tensor([-3.0, -1.0, -0.9999, -0.5, -0.005, 0.0, 0.3])
    weights = abnormal_weight(at)
    assert weights[0] == weights[1] == 1
    assert weights[2] == pytest.approx(0.992, abs=1e-3)
    assert weights[3] == pytest.approx(0.53 * (1 + math.exp(-0.5)) ** 2 / 0.5, rel=1e-5)
    assert weights[4] == weights[5] == 100  # 422 and infinite without the bound
    assert weights[6] == pytest.approx(0.53 * (1 + math.exp(0.3)) ** 2 / 0.3, rel=1e-5)


def test_boundary_pulls_and_pushes_what_is_on_the_wrong_side():
    normal = torch.linspace(-1.0, -0.01, 100)
    q = torch.cat([normal, torch.tensor([-1.5, -1.05, -0.5])]).requires_grad_()
    abnormal = torch.arange(103) >= 100
    weights = torch.ones(103)
    pull, push = semi_push_pull(q, abnormal, weights, boundary_of(q, abnormal, 0.03), margin=0.1)
    boundary = float(normal[3])  # floor(0.03 * 100)
    assert float(pull.detach()) == pytest.approx(float((boundary - normal[:4]).mean()), abs=1e-6)
    above = torch.tensor([-1.05, -0.5])  # -1.5 is below the margin already
    assert float(push.detach()) == pytest.approx(float((above - (boundary - 0.1)).mean()), abs=1e-6)
    (pull + push).backward()
    moved = q.grad.nonzero().flatten().tolist()
    assert moved == [0, 1, 2, 3, 101, 102]
    assert (q.grad[:4] < 0).all()  # a step against the gradient raises normal fibres ..
    assert (q.grad[101:] > 0).all()  # .. and lowers abnormal ones


def test_weights_scale_their_fibres():
    q, abnormal = torch.tensor([-0.9, -0.3, -0.2, -0.1]), torch.tensor([False, False, False, True])
    boundary = boundary_of(q, abnormal, 0.4)
    one, two = (semi_push_pull(q, abnormal, torch.full((4,), w), boundary, margin=0.1) for w in (1.0, 2.0))
    assert all(float(b) == pytest.approx(2 * float(a)) for a, b in zip(one, two, strict=True))
    assert float(one[0]) > 0


@pytest.mark.parametrize("abnormal_at", [None, -9.0])
def test_nothing_to_push_is_zero_with_finite_gradients(abnormal_at):
    q = torch.tensor([-0.5, -0.4, -0.3, -0.2 if abnormal_at is None else abnormal_at], requires_grad=True)
    abnormal = torch.tensor([False, False, False, abnormal_at is not None])
    pull, push = semi_push_pull(q, abnormal, torch.ones(4), boundary_of(q, abnormal, 0.01), margin=0.1)
    assert float(push) == 0
    (pull + push).backward()
    assert torch.isfinite(q.grad).all()


def test_first_meta_epoch_trains_likelihood_of_normal_images_only():
    method = build()
    early = batch(progress=0.03, masks=masks_of(1, 3))
    normals = Batch(early.features[[0, 2]], None, 0.03)
    nfad = build("nfad")
    nfad.load_state_dict(method.state_dict())
    torch.testing.assert_close(losses(method, early), losses(nfad, normals))
    assert list(method.losses(batch(0.0, masks_of(0, 1, 2, 3)), torch.Generator())) == []
    guided = losses(method, batch(progress=0.04, masks=masks_of(1, 3)))
    assert len(guided) > len(losses(method, early))


def test_a_chunk_without_abnormal_fibres_has_the_weighted_likelihood_loss():
    method = build(fibre_batch=10_000)
    given = batch(masks=masks_of())
    for level, loss in enumerate(losses(method, given)):
        fibres = to_fibres(given.features.levels[level])
        encoded = log_density(*method.encode(level, fibres, torch.arange(len(fibres)))) / fibres.shape[1]
        weights = normal_weight(encoded / 10)
        torch.testing.assert_close(loss, -(weights * functional.logsigmoid(encoded)).mean())


@pytest.mark.parametrize("normalizer", [5.0, 10.0])
def test_loss_is_likelihood_and_boundary(normalizer):
    method = build(fibre_batch=10_000, boundary_weight=2.0, normalizer=normalizer)
    given = batch(masks=masks_of(0, 2))
    loss = losses(method, given)[0]
    fibres = to_fibres(given.features.levels[0])
    encoded = log_density(*method.encode(0, fibres, torch.arange(len(fibres)))) / fibres.shape[1]
    abnormal = (given.masks[:, ::2, ::2] > 0).flatten()
    q = encoded / normalizer
    weights = torch.where(abnormal, abnormal_weight(q), normal_weight(q)).detach()
    likelihood = -(weights * functional.logsigmoid(encoded))[~abnormal].mean()
    pull, push = semi_push_pull(q, abnormal, weights, boundary_of(q, abnormal, 0.01), 0.1)
    assert float(push) > 0
    torch.testing.assert_close(loss, likelihood + 2 * (pull + push))


def test_chunks_without_normal_fibres_make_no_step():
    method = build()
    whole = torch.ones(4, 16, 16)
    assert list(method.losses(batch(masks=whole), torch.Generator())) == []


def test_variant_without_anomalies_pulls_only():
    method, nfad = build(boundary="pull", focal=False, beta=0.1, fibre_batch=10_000), build("nfad", fibre_batch=10_000)
    assert not method.takes_anomalies
    given = batch()
    for level, (ours, plain) in enumerate(zip(losses(method, given), losses(nfad, given), strict=True)):
        fibres = to_fibres(given.features.levels[level])
        q = log_density(*method.encode(level, fibres, torch.arange(len(fibres)))) / fibres.shape[1] / 10
        abnormal = torch.zeros(len(q), dtype=torch.bool)
        pull, _ = semi_push_pull(q, abnormal, torch.ones_like(q), boundary_of(q, abnormal, 0.1), 0.1)
        assert float(pull.detach()) > 0
        torch.testing.assert_close(ours, plain + pull)
    torch.testing.assert_close(losses(method, batch(progress=0.0)), losses(nfad, batch()))


def test_boundary_widens_the_gap_between_normal_and_abnormal_fibres():
    usual = [torch.randn(1, *shape, generator=torch.Generator().manual_seed(1)) for shape in SHAPES]

    def make(seed, count=8):
        generator = torch.Generator().manual_seed(seed)
        levels = [x + 0.3 * torch.randn(count, *x.shape[1:], generator=generator) for x in usual]
        for x in levels:
            part = x[: count // 2, :, : x.shape[-1] // 2, : x.shape[-1] // 2]
            part += 0.5  # anomalies that are alike
        return Batch(Features(levels), masks_of(*range(count // 2), count=count), LATER)

    def gap(boundary_weight):
        method = build(focal=False, boundary_weight=boundary_weight)
        optimizer = torch.optim.Adam(method.parameters(), 2e-3)
        for step in range(40):
            for loss in method.losses(make(step), torch.Generator().manual_seed(step)):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        given = make(99, count=32)
        (_, values), *_ = method.position_log_likelihoods(given.features)
        abnormal = given.masks[:, ::2, ::2] > 0
        return float((values[~abnormal].median() - values[abnormal].median()).detach())

    assert gap(1.0) > 1.3 * gap(0.0)
