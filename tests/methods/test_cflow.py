"""CFLOW-AD: counts, flow, fibres and steps, likelihood, calibration, score, settings."""

import math

import pytest
import torch
from torch.nn import functional

from nfbench.blocks import likelihood
from nfbench.blocks.features import Features
from nfbench.blocks.likelihood import fibre_chunks, likelihood_map, to_fibres
from nfbench.blocks.method import Batch, LevelShape, build_method, load_method, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.methods.cflow import CFlow

SMALL = [LevelShape(6, 8, 8), LevelShape(9, 4, 4), LevelShape(12, 2, 2)]
LIGHT = {"coupling_blocks": 2, "condition_dim": 16}


def build(shapes=SMALL, size=32, seed=0, **overrides):
    return build_method("cflow", shapes, resolve_settings("cflow", overrides=overrides), (size, size), seed)


def light(**overrides):
    """A small flow whose parameters are all away from their initial values."""
    method = build(**{**LIGHT, **overrides})
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in method.flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return method


def random_features(batch=3, seed=0, shapes=SMALL):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(batch, *shape, generator=generator) for shape in shapes])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# trained parameters of one level with 8 steps and a condition of 128, by channels
OF_LEVEL = {128: 989_184, 256: 2_107_392, 384: 3_618_816, 512: 5_523_456, 768: 10_512_384, 1024: 17_074_176,
            2048: 59_049_984}  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        *(([channels], expected) for channels, expected in OF_LEVEL.items()),
        pytest.param([512, 1024, 2048], 81_647_616, id="WRN-50, published as 81.6 M"),
        pytest.param([768], 10_512_384, id="CaiT-M48, published as 10.5 M"),
        pytest.param([128, 256, 512], 8_620_032, id="ResNet-18"),
    ],
)
def test_trainable_parameters(channels, expected):
    settings = resolve_settings("cflow", overrides={"permutation": "hard"})
    with torch.device("meta"):
        method = CFlow([LevelShape(count, 2, 2) for count in channels], settings, (8, 8), None)
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == expected
    assert {part: sum(p.numel() for p in group) for part, group in method.parameter_groups().items()} == {
        "flow": expected
    }


@pytest.mark.parametrize("permutation", ["hard", "soft"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_log_det_agrees_with_autograd_and_the_flow_inverts(level, permutation):
    method = light(permutation=permutation).double()
    fibres = to_fibres(random_features().levels[level]).double()
    rows = torch.tensor([len(fibres) - 1, 0, 2])
    z, log_det = method.encode(level, fibres, rows)
    jacobian = torch.autograd.functional.jacobian(lambda x: method.encode(level, x, rows)[0].sum(0), fibres)
    expected = torch.linalg.slogdet(jacobian[:, rows].transpose(0, 1)).logabsdet
    torch.testing.assert_close(log_det, expected)
    assert log_det.abs().min() > 1e-2
    code = getattr(method, f"code_{level}")
    back, inverse_log_det = method.flow[level](z, [code[rows % len(code)]], rev=True)
    close = {"atol": 1e-5, "rtol": 1e-5} if permutation == "soft" else {}  # the rotation is stored in float32
    torch.testing.assert_close(back, fibres[rows], **close)
    torch.testing.assert_close(inverse_log_det, -log_det, **close)


@torch.no_grad()
def test_a_fibre_is_encoded_by_its_position_whatever_its_image():
    method = light()
    x = torch.randn(1, 6, 1, 1).expand(2, 6, 8, 8)  # the same fibre at all positions of two images
    z, log_det = next(method.encode_levels([x]))
    torch.testing.assert_close(z[0], z[1])
    torch.testing.assert_close(log_det[0], log_det[1])
    positions = z[0].flatten(1).T
    assert (torch.cdist(positions, positions) + torch.eye(64)).min() > 1e-3
    expected, _ = method.flow[0](x[:1, :, 0, 0], [method.code_0[8 * 5 + 3][None]])
    torch.testing.assert_close(z[0, :, 5, 3], expected[0])


def test_to_fibres_goes_image_by_image_and_row_by_row():
    x = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    fibres = to_fibres(x)
    assert fibres.shape == (40, 3)
    assert all(
        torch.equal(fibres[(image * 4 + row) * 5 + column], x[image, :, row, column])
        for image in range(2)
        for row in range(4)
        for column in range(5)
    )


@pytest.mark.parametrize(("count", "size", "n_chunks"), [(64, 16, 4), (70, 16, 4), (16, 16, 1), (9, 16, 1)])
def test_chunks_are_a_partition_without_the_incomplete_last_one(count, size, n_chunks):
    chunks = fibre_chunks(count, size, generator())
    assert [len(chunk) for chunk in chunks] == [min(size, count)] * n_chunks
    rows = torch.cat(list(chunks))
    assert len(rows.unique()) == len(rows)
    assert set(rows.tolist()) <= set(range(count))
    assert not torch.equal(rows, rows.sort().values)
    again, other = (torch.cat(list(fibre_chunks(count, size, generator(seed)))) for seed in (0, 1))
    assert torch.equal(rows, again)
    assert not torch.equal(rows, other)


def test_losses_go_over_all_fibres_once_level_by_level(monkeypatch):
    method = light(fibre_batch=4)
    seen = []
    encode = method.encode

    def spy(level, fibres, rows):
        seen.append((level, rows))
        return encode(level, fibres, rows)

    monkeypatch.setattr(method, "encode", spy)
    losses = method.losses(Batch(random_features()), generator())
    next(losses)
    assert len(seen) == 1  # the next chunk waits for the step
    assert len(list(losses)) + 1 == len(seen)
    assert [level for level, _ in seen] == [0] * 48 + [1] * 12 + [2] * 3
    for level, (_, height, width) in enumerate(SMALL):
        rows = torch.cat([rows for number, rows in seen if number == level])
        assert torch.equal(rows.sort().values, torch.arange(3 * height * width))


def test_each_loss_touches_one_level_only_and_all_of_its_parameters():
    method = light(fibre_batch=48)
    levels = []
    for loss in method.losses(Batch(random_features()), generator()):
        method.zero_grad()
        loss.backward()
        with_gradient = [[p.grad is not None and bool(p.grad.any()) for p in flow.parameters()] for flow in method.flow]
        assert all(all(flags) or not any(flags) for flags in with_gradient)
        untouched = [flow for flow, flags in zip(method.flow, with_gradient, strict=True) if not any(flags)]
        assert all(p.grad is None for flow in untouched for p in flow.parameters())
        levels.append([number for number, flags in enumerate(with_gradient) if any(flags)])
    assert levels == [[0]] * 4 + [[1]] + [[2]]


def test_losses_are_reproducible_by_their_generator():
    method, features = light(fibre_batch=16), random_features()
    first, same, other = (torch.stack(list(method.losses(Batch(features), generator(seed)))) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    state = torch.get_rng_state()
    list(method.losses(Batch(features), generator()))
    assert torch.equal(torch.get_rng_state(), state)


def by_distributions(method, level, features):
    """Log-density of each position ``(B, H, W)``: torch's normal distribution and the flow's log-determinant."""
    x = features.levels[level]
    batch, _, height, width = x.shape
    code = getattr(method, f"code_{level}").repeat(batch, 1)
    z, log_det = method.flow[level](x.movedim(1, -1).flatten(0, 2), [code])
    return (torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det).view(batch, height, width)


@torch.no_grad()
def test_likelihood_and_loss_are_one_formula():
    method, features = light(fibre_batch=10_000), random_features()
    levels = [by_distributions(method, level, features) for level in range(3)]
    expected = sum(values.flatten(1).sum(1) for values in levels) / method.dimensions
    torch.testing.assert_close(method.log_likelihood(features), expected)
    losses = list(method.losses(Batch(features), generator()))
    for loss, values, (channels, _, _) in zip(losses, levels, SMALL, strict=True):
        torch.testing.assert_close(loss, (1 + (-values / channels).exp()).log().mean())  # -log sigmoid
    assert method.loss_scale == 1


@torch.no_grad()
def test_calibration_takes_the_largest_likelihood_of_each_level_over_all_batches():
    method, features = light(), random_features(batch=7)
    method.calibrate(lambda: (features[first : first + 3] for first in (0, 3, 6)))
    expected = [by_distributions(method, level, features).max() / SMALL[level].channels for level in range(3)]
    torch.testing.assert_close(method.reference, torch.stack(expected).double(), atol=1e-5, rtol=1e-5)
    assert method.score(features).maps.min() >= 0  # of these images, none is above the reference
    calls = []
    method.calibrate(lambda: calls.append(1) or [features])
    assert calls == [1]


@torch.no_grad()
def test_calibrated_with_the_test_set_the_score_is_the_published_one_up_to_a_constant():
    """The formula over a whole test set at once: subtract the maximum, exponentiate, up-sample, add up, subtract."""
    method, test_set = light(), random_features(batch=5, seed=2)
    for x in test_set.levels:
        x[1, :, 0, 0] *= 4
    normality = 0
    for level, (channels, _, _) in enumerate(SMALL):
        log_likelihood = by_distributions(method, level, test_set).double() / channels
        exponentials = torch.exp(log_likelihood - log_likelihood.max())
        normality += functional.interpolate(exponentials[:, None], (32, 32), mode="bilinear", align_corners=True)[:, 0]
    published = normality.max() - normality
    method.calibrate(lambda: (test_set[i : i + 2] for i in (0, 2, 4)))
    scores = [method.score(test_set[i : i + 1]) for i in range(5)]
    maps = torch.cat([score.maps for score in scores])
    torch.testing.assert_close(maps - published, torch.full_like(maps, 3 - normality.max()), atol=1e-5, rtol=0)
    images = torch.cat([score.images for score in scores])
    assert torch.equal(images.argsort(), published.flatten(1).amax(1).argsort())
    assert torch.equal(images, maps.flatten(1).amax(1))


@torch.no_grad()
def test_score_of_an_image_does_not_depend_on_its_batch():
    method, features = light(), random_features()
    method.calibrate(lambda: [random_features(batch=4, seed=5)])
    together, alone = method.score(features), method.score(features[1:2])
    torch.testing.assert_close(alone.maps[0], together.maps[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.images[0], together.images[1], atol=1e-5, rtol=1e-5)
    for ours, all_of_them in zip(alone.latents, together.latents, strict=True):
        torch.testing.assert_close(ours[0], all_of_them[1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_scoring_is_chunked_and_chunks_do_not_matter(monkeypatch):
    method, features = light(), random_features()
    whole = method.score(features)
    sizes = []
    encode = method.encode
    monkeypatch.setattr(likelihood, "_SCORED_FIBRES", 7)
    monkeypatch.setattr(method, "encode", lambda *call: sizes.append(len(call[2])) or encode(*call))
    in_chunks = method.score(features)
    assert max(sizes) == 7
    assert sum(sizes) == 3 * (64 + 16 + 4)
    torch.testing.assert_close(in_chunks.maps, whole.maps, atol=1e-5, rtol=1e-5)
    for z, expected, shape in zip(in_chunks.latents, whole.latents, method.latent_shapes(), strict=True):
        torch.testing.assert_close(z, expected, atol=1e-5, rtol=1e-5)
        assert z.shape == (3, *shape)
    assert method.latent_shapes() == [tuple(shape) for shape in SMALL]


def test_map_stays_finite_far_above_and_far_below_the_reference():
    log_likelihood = torch.tensor([[[-1.0, 1e6], [-1e6, -math.inf]]])
    anomaly_map = likelihood_map([log_likelihood], torch.tensor([-1.0]), (2, 2))
    assert anomaly_map.dtype == torch.float64
    assert anomaly_map.float().isfinite().all()
    assert anomaly_map[0, 0].tolist() == [0, pytest.approx(1 - math.exp(80))]
    assert anomaly_map[0, 1].tolist() == [1, 1]


def test_map_aligns_corners():
    level = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]).log()
    anomaly_map = likelihood_map([level], torch.zeros(1), (4, 4))
    ramp = torch.tensor([1, 2 / 3, 1 / 3, 0], dtype=torch.float64)
    torch.testing.assert_close(anomaly_map[0], 1 - ramp[:, None] * ramp)


def two_sided(batch, seed):
    """Noise around a mean that is positive in the left half and negative in the right one, and the same, pooled."""
    side = torch.tensor([1.0] * 4 + [-1.0] * 4)
    mean = 2 * side * torch.tensor([1.0, -1.0, 0.5, 0.0])[:, None, None]
    fine = mean + 0.5 * torch.randn(batch, 4, 8, 8, generator=generator(seed))
    return Features([fine, functional.avg_pool2d(fine, 2)])


@pytest.mark.parametrize("permutation", ["soft", "hard"])
def test_a_fibre_that_is_normal_elsewhere_is_found_where_it_is_not(permutation):
    shapes = [LevelShape(4, 8, 8), LevelShape(4, 4, 4)]
    method = build(shapes, coupling_blocks=4, condition_dim=16, fibre_batch=128, permutation=permutation)
    train, test = two_sided(32, seed=0), two_sided(4, seed=1)
    optimizer = torch.optim.Adam(method.parameters(), 0.02)
    draws = generator()
    for _ in range(20):
        for loss in method.losses(Batch(train), draws):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    method.calibrate(lambda: [train])
    with torch.no_grad():
        before = method.log_likelihood(test)
        fine, coarse = test.levels
        fine[2, :, 1:3, 0:2] = fine[2, :, 1:3, 6:8]  # from the right border to the left one
        coarse.copy_(functional.avg_pool2d(fine, 2))
        after, scores = method.log_likelihood(test), method.score(test)
    assert after[2] < before[2] - 0.2
    assert torch.equal(after[[0, 1, 3]], before[[0, 1, 3]])
    row, column = divmod(int(scores.maps[2].argmax()), 32)
    assert (row < 16, column < 12) == (True, True)
    assert scores.images[2] > scores.images[[0, 1, 3]].max() + 0.1


def test_seeds():
    state = torch.get_rng_state()
    first, second, third = build(**LIGHT), build(**LIGHT), build(**LIGHT, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    ours, same, other = (model.state_dict() for model in (first, second, third))
    assert all(torch.equal(value, same[name]) for name, value in ours.items())
    for part in ("rotation", "subnet"):
        assert all(not torch.equal(value, other[name]) for name, value in ours.items() if part in name)
        assert any(part in name for name in ours)


@torch.no_grad()
def test_state_brings_flow_and_reference_back_but_no_codes():
    method, features = light(), random_features()
    method.calibrate(lambda: [features])
    state = method.state_dict()
    assert state["reference"].abs().min() > 0
    assert not any("code" in name for name in state)
    again = load_method(build(**LIGHT, seed=1), state)
    assert torch.equal(again.reference, method.reference)
    assert torch.equal(again.score(features).maps, method.score(features).maps)


def test_losses_in_low_precision():
    method, features = light(fibre_batch=64), random_features()
    expected = torch.stack(list(method.losses(Batch(features), generator())))
    with torch.autocast("cpu", torch.bfloat16):
        losses = torch.stack(list(method.losses(Batch(features), generator())))
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected, atol=0.05, rtol=0.05)
    assert not torch.equal(losses, expected)


def test_papers_settings():
    settings = resolve_settings("cflow")
    assert (settings.epochs, settings.batch_size, settings.fibre_batch, settings.lr) == (200, 32, 256, 2e-4)
    assert (settings.schedule, settings.meta_epochs, settings.weight_decay) == ("warmup_cosine", 25, 0)
    assert (settings.drop_last, settings.online_rotation) == (True, 5)
    assert (settings.coupling_blocks, settings.condition_dim, settings.clamp) == (8, 128, 1.9)
    assert (settings.clamp_rule, settings.permutation) == ("outer", "soft")
    assert CFlow.transductive


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"condition_dim": 30}, "setting 'condition_dim' of method 'cflow': Input should be a multiple of 4"),
        ({"fibre_batch": 0}, "setting 'fibre_batch' of method 'cflow'"),
        ({"fiber_batch": 9}, r"setting 'fiber_batch' of method 'cflow'.*did you mean 'fibre_batch'\?"),
    ],
)
def test_wrong_settings_are_named(overrides, message):
    with pytest.raises(NfbenchError, match=message):
        resolve_settings("cflow", overrides=overrides)
