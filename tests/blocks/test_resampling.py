"""Resampling on a GPU equals torch's, in values and gradients."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from nfbench.blocks import resampling
from nfbench.blocks.resampling import resampled

TORCH = {
    "average": functional.adaptive_avg_pool2d,
    "bilinear": partial(functional.interpolate, mode="bilinear"),
    "bilinear_aligned": partial(functional.interpolate, mode="bilinear", align_corners=True),
}


@pytest.mark.parametrize("by", TORCH)
@pytest.mark.parametrize(("before", "after"), [((1, 1), (2, 2)), ((2, 5), (4, 10)), ((8, 6), (2, 3)), ((5, 7), (3, 9))])
def test_products_are_what_torch_does(before, after, by, monkeypatch):
    x = torch.randn(2, 3, *before, dtype=torch.float64, requires_grad=True)
    theirs = resampled(x, after, by)
    assert torch.equal(theirs, TORCH[by](x, after))
    monkeypatch.setattr(resampling, "_is_repeatable", lambda _: False)
    ours = resampled(x, after, by)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(ours)
    found, expected = (torch.autograd.grad(y, x, gradient)[0] for y in (ours, theirs))
    torch.testing.assert_close(found, expected)


def test_a_map_of_this_size_is_left_as_it_is():
    x = torch.randn(2, 3, 4, 5)
    assert resampled(x, (4, 5), "bilinear") is x
