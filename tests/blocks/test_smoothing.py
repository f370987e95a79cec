"""The blur of maps equals SciPy's, including borders."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from nfbench.blocks.maps import smooth


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    sigma=st.floats(0, 8),
    seed=st.integers(0, 99),
)
def test_smoothing_is_scipys(shape, sigma, seed):
    """For maps of any size, including maps smaller than the kernel."""
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.from_numpy(gaussian_filter(maps.numpy(), (0, sigma, sigma)))
    torch.testing.assert_close(smooth(maps, sigma), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(smooth(maps.float(), sigma), expected.float(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [224, 256])
def test_a_defect_at_the_border_stays_there(size):
    """With torch's reflection padding, which omits border pixels, the blur would lose part of its weight."""
    maps = torch.zeros(1, size, size)
    maps[0, 0, :] = 1
    blurred = smooth(maps, 4.0)
    torch.testing.assert_close(blurred.sum(), maps.sum())
    assert (blurred[0].argmax(0) == 0).all()
