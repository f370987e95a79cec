"""A contrario segmentation: a plain reference from the formulas, theory under the null, exact figures, bad input."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from nfbench.scoring.a_contrario import log10_n_tests, log_nfa, log_pfa, regions


class Component:
    """A node of the reference's tree."""

    def __init__(self, pixels, level, channels, guard):
        ratio = max(level / channels, np.finfo(float).tiny)
        self.pixels, self.level = pixels, level
        self.log_pfa = float(-len(pixels) * (channels / 2) * (ratio - 1 - np.log(ratio)) / np.log(10))
        if guard and ratio <= 1:
            self.log_pfa = 0.0
        self.children = []


def flood(allowed):
    """4-connected components of a set of pixels."""
    components, left = [], set(allowed)
    while left:
        component, border = set(), [left.pop()]
        while border:
            row, column = border.pop()
            component.add((row, column))
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.remove(near)
                    border.append(near)
        components.append(frozenset(component))
    return components


def build_tree(u2, channels, guard):
    """All components of all upper level sets, each once, at the highest level that has it; returns the root."""
    found = {}
    for level in np.unique(u2)[::-1]:
        for pixels in flood(zip(*np.nonzero(u2 >= level), strict=True)):
            found.setdefault(pixels, Component(pixels, float(level), channels, guard))
    nodes = sorted(found.values(), key=lambda node: len(node.pixels))
    for index, node in enumerate(nodes):
        parent = next((other for other in nodes[index + 1 :] if node.pixels < other.pixels), None)
        if parent is not None:
            parent.children.append(node)
    return nodes[-1]


def prune(node):
    """Keep the rarest component of every branch that ends in a leaf, of equally rare ones the innermost."""
    node.children = [prune(child) for child in node.children]
    if len(node.children) == 1 and not node.children[0].children:
        child = node.children[0]
        if node.log_pfa < child.log_pfa:
            node.children = []
            return node
        return child
    return node


def merge(node):
    """Remove leaves below forks that are at least as rare as the rarest of them; says whether it did."""
    below = [merge(child) for child in node.children]
    is_fork_of_leaves = len(node.children) > 1 and all(not child.children for child in node.children)
    if is_fork_of_leaves and node.log_pfa <= min(child.log_pfa for child in node.children):
        node.children = []
        return True
    return any(below)


def leaves(node):
    return [leaf for child in node.children for leaf in leaves(child)] if node.children else [node]


def reference_log_pfa(u2, channels, guard=False):
    """Steps a to g of the published algorithm, iterated as published."""
    root = prune(build_tree(u2, channels, guard))
    while merge(root):
        root = prune(root)
    result = np.zeros(u2.shape)
    for leaf in leaves(root):
        for pixel in leaf.pixels:
            result[pixel] = leaf.log_pfa
    return result


def draw(seed):
    """An energy map of one of many kinds, and its degrees of freedom."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 2))
    channels = int(rng.choice([1, 2, 8, 64]))
    u2 = rng.chisquare(channels, shape)
    kind = seed % 5
    if kind == 1:  # spots
        u2[rng.random(shape) < 0.2] *= rng.choice([2, 5])
    elif kind == 2:  # many ties
        u2 = np.round(2 * u2 / channels) * channels / 2
    elif kind == 3:  # few values, zeros among them
        u2 = rng.integers(0, 4, shape) * channels * 1.0
    elif kind == 4:  # smooth, mostly quiet
        u2 = np.sort(np.sort(0.8 * u2, axis=0), axis=1)
    return u2, channels


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("block", range(10))
def test_log_pfa_is_that_of_the_published_algorithm(block, guard):
    for seed in range(40 * block, 40 * block + 40):
        u2, channels = draw(seed)
        assert np.array_equal(log_pfa(u2, channels, guard), reference_log_pfa(u2, channels, guard)), f"seed {seed}"


def test_reference_exercises_forks_and_branches():
    """The random cases are evidence only if trees of all kinds come up: forks that merge, forks that stay."""
    stays = merges = 0
    for seed in range(400):
        root = prune(build_tree(*draw(seed), False))
        before = len(leaves(root))
        while merge(root):
            root = prune(root)
        after = len(leaves(root))
        stays += after > 1
        merges += after < before
    assert stays > 40
    assert merges > 40


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (((28, 28), (14, 14)), 476.9237),
        (((28, 28),), 476.9237),
        (((14, 14),), 118.9494),
        (((112, 112), (56, 56), (28, 28)), 7636.4216),
        (((64, 64), (32, 32), (16, 16)), 2493.2720),
    ],
)
def test_number_of_tests(shapes, expected):
    assert log10_n_tests(shapes) == pytest.approx(expected, abs=5e-5)


def test_log_nfa_is_the_minimum_over_scales_plus_the_number_of_tests():
    rng = np.random.default_rng(0)
    fine, coarse = rng.standard_normal((8, 12, 10)), rng.standard_normal((16, 6, 5))
    fine[:, 2:5, 2:5] *= 3
    expected = torch.stack(
        [
            functional.interpolate(
                torch.from_numpy(log_pfa((z**2).sum(0), len(z)))[None, None], (24, 20), mode="bilinear"
            )
            for z in (fine, coarse)
        ]
    ).amin(0)[0, 0].numpy() + log10_n_tests(((12, 10), (6, 5)))
    found = log_nfa([fine, torch.from_numpy(coarse)], (24, 20))
    assert found.shape == (24, 20)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


MS_CAIT = ((816, 28, 28), (192, 14, 14))
RESNET = ((64, 64, 64), (128, 32, 32), (256, 16, 16))
UFLOW_RESNET_448 = ((80, 112, 112), (84, 56, 56), (128, 28, 28))


def false_alarms(shapes, count, seed, variance=1.0, **options):
    """Whether each of ``count`` images of white noise has a region of NFA < 1; energies are drawn as chi-square."""
    rng = np.random.default_rng(seed)
    alarms = []
    for _ in range(count):
        scales = [variance * rng.chisquare(c, (h, w)) for c, h, w in shapes]
        lowest = min(log_pfa(u2, c, **options).min() for u2, (c, _, _) in zip(scales, shapes, strict=True))
        alarms.append(lowest + log10_n_tests(tuple(shape[1:] for shape in shapes)) < 0)
    return np.array(alarms)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shapes", "count"),
    [(MS_CAIT, 2000), (RESNET, 400), (UFLOW_RESNET_448, 100)],
    ids=["MS-CaiT", "ResNet at 256", "U-Flow on ResNet at 448"],
)
def test_white_noise_gives_less_than_one_false_alarm_per_image(shapes, count):
    """Theory bounds the number by 1 per image; the bound is loose, and there is none in all of them."""
    assert not false_alarms(shapes, count, seed=0).any()


def test_a_more_permissive_threshold_gives_a_larger_mask():
    z = np.random.default_rng(0).standard_normal((816, 28, 28))
    z[:, 10:14, 5:8] *= 1.4
    found = log_nfa([z], (56, 56))
    areas = [sum(region.area for region in regions(found, threshold)) for threshold in (-400, -100, 0, 100, 470)]
    assert areas == sorted(areas)
    assert areas[0] < areas[-1]


def test_latents_that_need_a_gradient_are_taken():
    z = torch.randn(8, 6, 6, requires_grad=True)
    assert np.array_equal(log_nfa([z], (6, 6)), log_nfa([z.detach().numpy()], (6, 6)))
    assert regions(torch.full((4, 4), -1.0)) == [(16, 0, 0, 4, 4, -1.0)]


@pytest.mark.parametrize(("shapes", "variance"), [(MS_CAIT, 0.85), (RESNET, 0.5)], ids=["MS-CaiT", "ResNet"])
def test_the_guard_is_what_keeps_quiet_images_from_being_detected(shapes, variance):
    assert false_alarms(shapes, 20, seed=1, variance=variance).all()
    assert not false_alarms(shapes, 20, seed=1, variance=variance, chernoff_guard=True).any()


def test_a_spot_is_found_and_measured():
    z = np.random.default_rng(0).standard_normal((816, 28, 28))
    z[:, 10:14, 5:8] *= 2
    found = regions(log_nfa([z], (112, 112)))
    assert len(found) == 1
    assert abs(found[0].top - 40) <= 3
    assert abs(found[0].left - 20) <= 3
    assert abs(found[0].bottom - 56) <= 3
    assert abs(found[0].right - 32) <= 3
    assert found[0].log_nfa < -100
    assert regions(log_nfa([z], (112, 112)), threshold=-1e9) == []


def test_regions_are_4_connected_and_sorted():
    log_map = np.full((4, 5), 3.0)
    log_map[0, 0], log_map[1, 1], log_map[3, 2:5] = -1, -2, [-5, -7, -0.5]
    assert regions(log_map) == [(3, 3, 2, 4, 5, -7.0), (1, 1, 1, 2, 2, -2.0), (1, 0, 0, 1, 1, -1.0)]
    assert regions(log_map, threshold=-1) == [(2, 3, 2, 4, 4, -7.0), (1, 1, 1, 2, 2, -2.0)]


def test_energy_zero_is_finite():
    assert math.isfinite(log_nfa([np.zeros((3, 4, 4))], (8, 8)).min())


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        ([np.full((2, 3, 3), np.nan)], "must be finite"),
        ([np.full((2, 3, 3), np.inf)], "must be finite"),
        ([np.zeros((3, 3))], r"must have shape \(C, H, W\), none of them 0, got \(3, 3\)"),
        ([np.zeros((0, 3, 3))], r"none of them 0, got \(0, 3, 3\)"),
        ([], "at least one scale"),
    ],
)
def test_bad_latents_are_refused(latents, message):
    with pytest.raises(ValueError, match=message):
        log_nfa(latents, (8, 8))
