"""RIAD: the described size, cells dealt to three sets, predictions that do not see their cells, edges compared."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, build_method, build_to_count, count_parameters, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.methods.riad import edge_similarities, median_of_neighbors

SMALL = {"width": 4, "cell_sizes": (2, 8), "smoothing": 0}


def build(side=32, seed=0, **overrides):
    settings = resolve_settings("riad", overrides={**SMALL, **overrides})
    return build_method("riad", [], settings, (side, side), seed)


def normalized(images):
    """Features of images in [-1, 1]."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return Features([], ((images + 1) / 2 - mean) / std)


def test_the_network_has_the_described_number_of_parameters():
    method = build_to_count("riad", [], resolve_settings("riad"), (256, 256))
    assert count_parameters(method)["total"] == 28_805_699
    assert method.network(torch.empty(2, 3, 256, 256, device="meta")).shape == (2, 3, 256, 256)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_each_pixel_is_hidden_once_with_its_cell(size):
    method = build(64, cell_sizes=(2, 4, 8, 16))
    sets = method.draw_sets(size, torch.Generator().manual_seed(1))
    counts = torch.stack([(sets == number).sum() for number in range(3)])
    assert counts.sum() == (64 // size) ** 2
    assert counts.max() - counts.min() <= 1
    seen = []
    method.network.forward = lambda images: seen.append(images) or torch.ones_like(images)
    found = method.inpaint(torch.ones(1, 3, 64, 64), method._pixels(sets))
    assert (found == 1).all()
    hidden = torch.stack([1 - images[0, 0] for images in seen])
    assert (hidden.sum(0) == 1).all()
    for cells in hidden.unfold(1, size, size).unfold(2, size, size):
        assert (cells.amax((2, 3)) == cells.amin((2, 3))).all()
    assert not torch.equal(sets, method.draw_sets(size, torch.Generator().manual_seed(2)))


def test_what_is_predicted_of_a_cell_does_not_depend_on_it():
    method = build().eval()
    sets = method._pixels(method.sets8)
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    inpainted = method.inpaint(image, sets)
    (gradient,) = torch.autograd.grad(inpainted[0, :, 8:16, 8:16].sum(), image)
    together = sets == sets[8, 8]
    assert not gradient[0][:, together].any()
    assert gradient[0][:, ~together].abs().max() > 0


def test_medians_and_similarities_of_edges_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 2, 3, 32, 32))
    found = edge_similarities(torch.from_numpy(x), torch.from_numpy(y))
    assert [level.shape[1] for level in found] == [30, 14, 6, 2]
    median = ndimage.median_filter(x[1, 0], 3, mode="constant")
    np.testing.assert_array_equal(median_of_neighbors(torch.from_numpy(x[:, 0]))[1].numpy(), median)
    for scale, level in enumerate(found):
        if scale:
            x, y = (image.reshape(2, 3, 32 >> scale, 2, 32 >> scale, 2).mean((3, 5)) for image in (x, y))
        for number in range(2):
            grey = [ndimage.median_filter(image[number].mean(0), 3, mode="constant") for image in (x, y)]
            a, b = (np.hypot(ndimage.prewitt(z, 0), ndimage.prewitt(z, 1))[1:-1, 1:-1] / 3 for z in grey)
            expected = (2 * a * b + 0.0026) / (a**2 + b**2 + 0.0026)
            np.testing.assert_allclose(level[number].numpy(), expected, rtol=1e-7)


def test_edges_of_equal_images_are_similar_and_flat_ones_have_a_gradient():
    x = torch.rand(2, 3, 64, 64)
    for level in edge_similarities(x, x.clone()):
        torch.testing.assert_close(level, torch.ones_like(level))
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    torch.stack([level.mean() for level in edge_similarities(x[:1, :, :32, :32], flat)]).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_a_defect_that_is_painted_away_is_found_and_what_is_painted_as_it_is_scores_nothing():
    normal = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5
    method = build(64, smoothing=2).eval()
    method.network.forward = lambda _: normal
    usual = method.score(normalized(normal))
    assert usual.images < 1e-6
    defect = normal.clone()
    defect[..., 16:32, 32:48] = 1
    scores = method.score(normalized(defect))
    row, column = divmod(int(scores.maps[0].argmax()), 64)
    assert 14 <= row < 34
    assert 30 <= column < 50
    assert scores.images > 100 * usual.images
    assert scores.maps[0, 48:, :16].max() < 0.01 * scores.images


def test_sizes_of_cells_count_by_the_number_of_their_cells():
    image, other = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    found = []
    for sizes in ((2,), (16,), (2, 16)):
        method = build(64, cell_sizes=sizes).eval()
        method.network.forward = lambda _: other
        found.append(method.score(normalized(image)).maps)
    torch.testing.assert_close(found[1], 64 * found[0])
    torch.testing.assert_close(found[2], found[0] + found[1])


def test_each_step_has_sets_of_its_own_and_draws_repeat():
    method, batch = build().eval(), Batch(normalized(torch.rand(4, 3, 32, 32)))
    losses = [next(method.losses(batch, torch.Generator().manual_seed(seed))).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("side", "sizes", "named"), [(40, (2,), 16), (48, (2, 32), 32)])
def test_images_that_cells_do_not_fill_are_refused(side, sizes, named):
    with pytest.raises(NfbenchError, match=rf"'cell_sizes' divide, and {side} is no multiple of {named}; change"):
        build(side, cell_sizes=sizes)
