"""PatchCore, PaDiM and SimpleNet: embeddings, exact scores, parameter counts, a planted anomaly, states, faults."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.blocks.maps import smooth
from nfbench.blocks.method import Batch, LevelShape, build_method, load_method, resolve_settings
from nfbench.blocks.patches import PatchEmbedding
from nfbench.core.errors import NfbenchError
from nfbench.methods.patchcore import nearest_neighbors

SHAPES = [LevelShape(8, 16, 16), LevelShape(12, 8, 8)]
SMALL = {
    "patchcore": {"pretrain_dim": 20, "target_dim": 20, "projection_dim": 8},
    "padim": {"reduced_dimensions": 10},
    "simplenet": {"embedding_dim": 24, "hidden_dim": 16},
}
METHODS = sorted(SMALL)


def build(name, shapes=SHAPES, size=64, seed=0, **overrides):
    return build_method(
        name, shapes, resolve_settings(name, overrides={**SMALL[name], **overrides}), (size, size), seed
    )


def draw(n, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, generator=generator) for shape in shapes]


def fit(model, features, batch=4):
    """Fits the model, and trains it for a while where it is trained by gradient."""
    batches = list(zip(*(x.split(batch) for x in features), strict=True))
    calls = []
    model.train().prepare(lambda: calls.append(1) or batches)
    generator = torch.Generator().manual_seed(0)
    if list(model.parameters()):
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(20):
            for each in batches:
                for loss in model.losses(Batch(each), generator):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    assert len(calls) <= 2
    return model.eval()


# embeddings


def pool_by_hand(values, dim):
    """Averages over the windows [floor(i n / d), ceil((i + 1) n / d))."""
    n = values.shape[-1]
    windows = [values[..., i * n // dim : -(-(i + 1) * n // dim)].mean(-1) for i in range(dim)]
    return torch.stack(windows, dim=-1)


@pytest.mark.parametrize(("pretrain", "target"), [(24, 24), (20, 20), (16, 31), (50, 7)])
def test_official_embedding_is_the_published_sequence(pretrain, target):
    features = draw(3)
    levels = []
    for x in features:
        around = functional.unfold(x, 3, padding=1).unflatten(2, x.shape[2:])
        around = functional.interpolate(around, (16, 16), mode="bilinear", align_corners=False)
        levels.append(pool_by_hand(around.flatten(2).mT, pretrain))
    expected = pool_by_hand(torch.stack(levels, dim=2).flatten(2), target)
    embedding = PatchEmbedding(SHAPES, pretrain, target, "official")
    torch.testing.assert_close(embedding(features), expected, atol=1e-5, rtol=1e-5)
    assert (embedding.dim, embedding.grid) == (target, (16, 16))


def test_official_embedding_of_simplenet_averages_rows_of_the_neighbourhood():
    # one level of 8 channels to 24 values: 3 for each channel, one for each row of its 3 x 3 neighbourhood
    (x,) = draw(2, SHAPES[:1])
    rows = PatchEmbedding(SHAPES[:1], 24, 24, "official")([x])
    padded = functional.pad(x, [1] * 4)
    at = (1, 5, 9)  # image, row, column
    expected = [padded[at[0], c, at[1] + r, at[2] : at[2] + 3].mean() for c in range(8) for r in range(3)]
    torch.testing.assert_close(rows[at[0], at[1] * 16 + at[2]], torch.stack(expected))


def test_halves_of_the_official_embedding_depend_on_one_level_each():
    embedding = PatchEmbedding(SHAPES, 24, 24, "official")
    fine, coarse = draw(2)
    before, moved_coarse, moved_fine = (embedding(x) for x in ([fine, coarse], [fine, -coarse], [-fine, coarse]))
    assert torch.equal(before[..., :12], moved_coarse[..., :12])
    assert torch.equal(before[..., 12:], moved_fine[..., 12:])
    assert ((before - moved_coarse)[..., 12:] != 0).all()
    assert ((before - moved_fine)[..., :12] != 0).all()


def test_average_embedding_keeps_all_channels():
    features = draw(2)
    embedding = PatchEmbedding(SHAPES, 5, 5, "average")
    patches = embedding(features)
    assert patches.shape == (2, 256, 20)
    assert embedding.dim == 20
    expected = features[0][1, :, 4:7, 9:12].mean((1, 2))
    torch.testing.assert_close(patches[1, 5 * 16 + 10, :8], expected)


# what all three keep


@pytest.mark.parametrize("n_levels", [1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_shapes_and_state(name, n_levels):
    shapes = [*SHAPES, LevelShape(5, 3, 3)][:n_levels]
    features = draw(6, shapes)
    model = fit(build(name, shapes), features) if name != "simplenet" else build(name, shapes).eval()
    scores = model.score(features)
    assert scores.maps.shape == (6, 64, 64)
    assert scores.images.shape == (6,)
    alone = model.score([x[2:3] for x in features])
    torch.testing.assert_close(alone.maps[0], scores.maps[2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.images[0], scores.images[2], atol=1e-5, rtol=1e-5)
    again = load_method(build(name, shapes, seed=1), model.state_dict())
    assert torch.equal(again.score(features).maps, scores.maps)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", METHODS)
def test_planted_anomaly_is_found_at_its_place(name, seed):
    generator = torch.Generator().manual_seed(seed)
    means = [1 + torch.rand(1, shape.channels, 1, 1, generator=generator) for shape in SHAPES]
    normal, test = (
        [mean + 0.3 * x for mean, x in zip(means, draw(n, seed=10 * seed + n), strict=True)] for n in (16, 4)
    )
    # the noise of SimpleNet has to suit the scale of the features
    overrides = {"noise_std": 0.5, "hidden_dim": 64} if name == "simplenet" else {}
    model = fit(build(name, seed=seed, **overrides), normal)
    places = [(slice(11, 14), slice(3, 6)), (slice(5, 7), slice(1, 3))]  # rows 40 to 55, columns 8 to 23 of the map
    for x, (rows, columns) in zip(test, places, strict=True):
        x[2, :, rows, columns] += 3 * torch.randn(x.shape[1], 1, 1, generator=generator)
    with torch.no_grad():
        scores = model.score(test)
    assert scores.images.argmax() == 2
    assert scores.maps.flatten(1).amax(1).argmax() == 2
    row, column = divmod(int(scores.maps[2].argmax()), 64)
    assert 40 <= row <= 55
    assert 8 <= column <= 23


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_maps_are_smoothed_by_pixels(name):
    features = draw(6)
    rough, fine = fit(build(name, smoothing=0), features) if name != "simplenet" else build(name, smoothing=0), None
    rough.eval()
    fine = load_method(build(name, smoothing=3), rough.state_dict())
    expected = smooth(rough.score(features).maps, 3, border="reflect")
    torch.testing.assert_close(fine.score(features).maps, expected)


@pytest.mark.parametrize("name", METHODS)
def test_smoothing_must_fit_into_the_map(name):
    with pytest.raises(NfbenchError, match=r"setting 'smoothing' is 4, but maps of 16 x 16 .* allow less than 4"):
        build(name, size=16)


@pytest.mark.parametrize("name", ["patchcore", "padim"])
def test_nothing_is_trained_by_gradient(name):
    model = build(name)
    assert not list(model.parameters())
    assert model.parameter_groups() == {}
    with pytest.raises(NfbenchError, match="setting 'epochs' of method"):
        build(name, epochs=3)


# PatchCore


def known_bank(model, bank):
    return load_method(model, {"memory_bank": bank})


@torch.no_grad()
def test_patchcore_on_constant_images():
    """Of equal images a coreset of distinct rows remains; interior patches of a shifted image are |shift|^2 away."""
    constant = [torch.full((5, *shape), 2.0) for shape in SHAPES]
    model = fit(build("patchcore", embedding="average", coreset_ratio=0.3), constant)
    assert model.memory_bank.shape == (int(5 * 256 * 0.3), 20)
    assert model.score(constant).images.abs().max() < 1e-9
    shifted = model.score([x + 0.5 for x in constant])
    torch.testing.assert_close(shifted.images, torch.full((5,), 20 * 0.5**2))


@torch.no_grad()
def test_patchcore_keeps_the_patches_that_the_selection_names():
    features = draw(6)
    model = fit(build("patchcore", coreset_ratio=0.05), features, batch=4)
    patches = model.embedding(features).flatten(0, 1)
    chosen = model.select(patches @ model.projection.T)
    assert len(chosen.unique()) == int(6 * 256 * 0.05)
    assert torch.equal(model.memory_bank, patches[chosen.sort().values])
    other = fit(build("patchcore", coreset_ratio=0.05, seed=1), features)
    assert not torch.equal(model.memory_bank, other.memory_bank)
    again = fit(build("patchcore", coreset_ratio=0.05), features, batch=5)
    torch.testing.assert_close(model.memory_bank, again.memory_bank)


def test_patchcore_projects_as_torch_initializes_a_linear_layer():
    model = build("patchcore", pretrain_dim=900, target_dim=900, projection_dim=128)
    assert model.projection.shape == (128, 900)
    assert abs(float(model.projection.std()) - (1 / 30) / 3**0.5) < 1e-4
    assert float(model.projection.abs().max()) <= 1 / 30
    assert "projection" not in model.state_dict()
    assert build("patchcore", projection_dim=20).projection is None


@torch.no_grad()
def test_patchcore_starts_from_ten_points_or_one():
    points = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    mean, point = (build("patchcore", start=start, coreset_ratio=0.02) for start in ("mean", "point"))
    anchors = (mean.start_points * 500).long()
    distances = torch.stack([(points - points[a]).norm(dim=1) for a in anchors]).mean(0)
    assert mean.select(points)[0] == distances.argmax()
    assert point.select(points)[0] == anchors[0]
    assert len(mean.select(points)) == len(point.select(points)) == 10
    assert len(build("patchcore", coreset_ratio=0.001).select(points)) == 1


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
@pytest.mark.parametrize("neighbors", [1, 3, 100])
@torch.no_grad()
def test_patchcore_averages_the_distances_to_its_neighbors(distance, neighbors):
    bank = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    overrides = {"embedding": "average", "distance": distance, "neighbors": neighbors, "smoothing": 0}
    model = known_bank(build("patchcore", size=16, **overrides), bank)
    features = draw(2)
    distances = torch.cdist(model.embedding(features).double(), bank.double())
    distances = distances.square() if distance == "squared" else distances
    expected = distances.sort(2).values[..., :neighbors].mean(2).view(2, 16, 16).float()
    scores = model.score(features)
    torch.testing.assert_close(scores.maps, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.images, expected.flatten(1).amax(1), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_patchcore_reweighting_is_equation_7():
    bank = torch.randn(40, 20, generator=torch.Generator().manual_seed(0))
    overrides = {"embedding": "average", "distance": "euclidean"}
    plain = known_bank(build("patchcore", **overrides), bank)
    model = known_bank(build("patchcore", reweighting=True, reweighting_neighbors=5, **overrides), bank)
    features = draw(3)
    patches = model.embedding(features)
    for number, image in enumerate(patches):
        distances, nearest = torch.cdist(image, bank).min(1)
        worst = int(distances.argmax())
        around = torch.cdist(bank[nearest[worst]][None], bank)[0].argsort()[:5]
        others = (image[worst] - bank[around]).norm(dim=1)
        weight = 1 - torch.exp(distances[worst]) / torch.exp(others).sum()
        torch.testing.assert_close(model.score(features).images[number], weight * distances[worst])
        assert weight < 0.95
    assert torch.equal(plain.score(features).maps, model.score(features).maps)


@torch.no_grad()
def test_distances_that_are_small_beside_the_norms():
    bank = 100 + torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    squared, indices = nearest_neighbors(bank + 1e-3, bank, 1)
    assert torch.equal(indices[:, 0], torch.arange(300))
    torch.testing.assert_close(squared, torch.full((300, 1), 64e-6), rtol=0.02, atol=0)
    assert torch.equal(nearest_neighbors(bank, bank, 1)[0], torch.zeros(300, 1))


class LargestTensor(TorchDispatchMode):
    """Notes the number of values of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else (result,)
        self.largest = max([self.largest, *(x.numel() for x in tensors if isinstance(x, torch.Tensor))])
        return result


@torch.no_grad()
def test_search_and_embedding_take_bounded_memory():
    bank = torch.randn(20_000, 16)
    with LargestTensor() as mode:
        squared, _ = nearest_neighbors(torch.randn(4 * 784, 16), bank, 1)
    assert squared.shape == (3136, 1)
    assert 2**23 < mode.largest <= 2**24  # all at once would be 62.7 million values, 3.7 times as many
    features = [torch.randn(10, 64, 16, 16), torch.randn(10, 128, 8, 8)]
    embedding = PatchEmbedding([LevelShape(64, 16, 16), LevelShape(128, 8, 8)], 16, 16, "official")
    with LargestTensor() as mode:
        embedding(features)
    assert mode.largest == 9 * 64 * 16 * 16  # the neighbourhoods in one level of one image


def test_patchcore_without_a_bank():
    with pytest.raises(NfbenchError, match="memory bank of PatchCore is empty"):
        build("patchcore").score(draw(1))


# PaDiM


def test_padim_may_draw_no_channel_of_a_level():
    features = draw(4)
    model = fit(build("padim", reduced_dimensions=1), features, batch=4)
    assert torch.isfinite(model.score(features).maps).all()


@torch.no_grad()
def test_padim_fits_mean_and_covariance():
    """Against numpy in float64, for features whose mean is large beside their deviation."""
    offset = draw(1, seed=5)
    features = [100 + 10 * mean + 0.1 * x for mean, x in zip(offset, draw(30), strict=True)]
    model = fit(build("padim", reduced_dimensions=12), features, batch=7)
    assert torch.equal(model.channels, model.channels.unique())
    everywhere = torch.cat([features[0], features[1].repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)
    vectors = everywhere[:, model.channels].flatten(2).double().numpy()  # (N, D, P)
    for position in (0, 17, 255):
        x = vectors[:, :, position]
        covariance = np.cov(x, rowvar=False) + 0.01 * np.eye(12)
        whitening = model.whitening[position].double().numpy()
        assert np.array_equal(whitening, np.tril(whitening))
        np.testing.assert_allclose(whitening.T @ whitening @ covariance, np.eye(12), atol=1e-3)
        np.testing.assert_allclose(model.mean[position].numpy(), x.mean(0), rtol=1e-6)


@torch.no_grad()
def test_padim_scores_and_likelihood_are_those_of_gaussians():
    features = draw(30)
    model = fit(build("padim", size=16, smoothing=0), features)
    test = draw(3, seed=9)
    everywhere = torch.cat([test[0], test[1].repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)
    x = everywhere[:, model.channels].flatten(2).permute(0, 2, 1).double()
    precision = (model.whitening.mT.double() @ model.whitening.double()).contiguous()
    gaussian = torch.distributions.MultivariateNormal(model.mean.double(), precision_matrix=precision)
    centred = x - model.mean.double()
    distance = torch.einsum("bpd,pde,bpe->bp", centred, precision, centred).sqrt()
    scores = model.score(test)
    torch.testing.assert_close(scores.maps.flatten(1), distance.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.images, distance.amax(1).float(), atol=1e-4, rtol=1e-4)
    log_density = gaussian.log_prob(x).sum(1) / (256 * 10)
    torch.testing.assert_close(model.log_likelihood(test), log_density.float(), atol=1e-4, rtol=1e-4)
    assert model.log_likelihood([10 * y for y in test]).max() < model.log_likelihood(test).min()


@torch.no_grad()
def test_padim_image_score_is_the_maximum_of_the_smoothed_map():
    features = draw(8)
    model = fit(build("padim"), features)
    scores = model.score(features)
    assert torch.equal(scores.images, scores.maps.flatten(1).amax(1))


def test_padim_channels():
    assert build("padim", reduced_dimensions=550).channels.tolist() == list(range(20))
    one, same, other = build("padim").channels, build("padim").channels, build("padim", seed=1).channels
    assert len(one) == 10
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    of = {
        name: resolve_settings("padim", backbone=name).reduced_dimensions
        for name in ("wide_resnet50_2.tv_in1k", "resnet18.tv_in1k", "tf_efficientnet_b5.ns_jft_in1k")
    }
    assert list(of.values()) == [550, 100, 200]


def test_padim_needs_two_images():
    with pytest.raises(NfbenchError, match=r"PaDiM .* needs 2 or more, got 1"):
        fit(build("padim"), draw(1))


# SimpleNet


def test_simplenet_has_the_published_parameters():
    shapes = [LevelShape(512, 36, 36), LevelShape(1024, 18, 18)]
    model = build_method("simplenet", shapes, resolve_settings("simplenet"), (288, 288), 0)
    found = {part: sum(p.numel() for p in group) for part, group in model.parameter_groups().items()}
    assert found == {"adaptor": 2_360_832, "discriminator": 1_576_960}
    assert sum(p.numel() for p in model.parameters()) == 3_937_792
    std = (2 / (1536 + 1536)) ** 0.5
    assert abs(float(model.adaptor.weight.detach().std()) / std - 1) < 0.01  # xavier, normal
    assert float(model.adaptor.weight.detach().abs().max()) > 4 * std


def test_simplenet_loss_is_one_where_the_discriminator_says_nothing():
    model = build("simplenet")
    torch.nn.init.zeros_(model.discriminator[-1].weight)
    (loss,) = model.losses(Batch(draw(2)), torch.Generator().manual_seed(0))
    assert loss == 1.0


def test_simplenet_loss_by_hand():
    model, features = build("simplenet", noise_std=0.3, margin=0.2), draw(2)
    (loss,) = model.losses(Batch(features), torch.Generator().manual_seed(4))
    with torch.no_grad():
        adapted = model.adaptor(model.embedding(features).reshape(512, 24))
        noise = torch.randn(512, 24, generator=torch.Generator().manual_seed(4))
        outputs = model.discriminator(torch.cat([adapted, adapted + 0.3 * noise]))[:, 0]
    expected = (0.2 - outputs[:512]).clamp_min(0).mean() + (0.2 + outputs[512:]).clamp_min(0).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.discriminator.parameters())
    assert model.adaptor.weight.grad.abs().max() > 0


def test_simplenet_noise_comes_from_the_generator():
    model, features = build("simplenet", noise_std=0.3), draw(2)
    first, same, other = (
        next(model.losses(Batch(features), torch.Generator().manual_seed(seed))).item() for seed in (0, 0, 1)
    )
    assert first == same != other


def test_simplenet_optimizers():
    model = build("simplenet")
    discriminator, adaptor = model.optimizer_groups()
    lr = model.settings.lr
    assert (lr * discriminator.lr_factor, discriminator.weight_decay, discriminator.decoupled) == (2e-4, 1e-5, False)
    assert (lr * adaptor.lr_factor, adaptor.weight_decay, adaptor.decoupled) == (1e-4, 1e-2, True)
    trained = {id(parameter) for group in (discriminator, adaptor) for parameter in group.parameters}
    assert trained == {id(parameter) for parameter in model.parameters()}
    settings = resolve_settings("simplenet")
    assert (settings.epochs, settings.batch_size, settings.smoothing, settings.noise_std) == (160, 8, 4.0, 0.015)


@torch.no_grad()
def test_simplenet_scores_patches_before_the_map():
    model = build("simplenet").eval()
    features = draw(3)
    patches = -model.discriminator(model.adaptor(model.embedding(features)).flatten(0, 1)).view(3, 256)
    scores = model.score(features)
    torch.testing.assert_close(scores.images, patches.amax(1))
    assert (scores.images > scores.maps.flatten(1).amax(1)).all()


def test_simplenet_trains_on_a_single_patch():
    shapes = [LevelShape(8, 1, 1)]
    (loss,) = build("simplenet", shapes).losses(Batch(draw(1, shapes)), torch.Generator())
    assert torch.isfinite(loss)


def test_simplenet_training_lowers_the_loss():
    features = draw(8)
    generator = torch.Generator().manual_seed(1)
    model = build("simplenet", noise_std=1.0)
    before = float(next(model.losses(Batch(features), generator)).detach())
    after = float(next(fit(model, features).losses(Batch(features), generator)).detach())
    assert after < 0.8 * before
