"""The sinusoidal code of positions against its definition, number by number."""

import math

import pytest
import torch

from nfbench.blocks.positional import sinusoidal_code


def slow_code(channels, height, width):
    """Channel by channel and position by position, from the definition."""
    code = torch.zeros(channels, height, width, dtype=torch.float64)
    half = channels // 2
    for channel in range(channels):
        within = channel % half
        frequency = math.exp(-2 * (within // 2) * math.log(1e4) / half)
        wave = math.cos if within % 2 else math.sin
        for y in range(height):
            for x in range(width):
                code[channel, y, x] = wave(frequency * (x if channel < half else y))
    return code.float()


@pytest.mark.parametrize(("channels", "height", "width"), [(4, 1, 1), (8, 3, 5), (128, 4, 3), (20, 2, 7)])
def test_definition(channels, height, width):
    code = sinusoidal_code(channels, height, width)
    assert code.dtype == torch.float32
    torch.testing.assert_close(code, slow_code(channels, height, width), atol=1e-6, rtol=0)


def test_first_half_is_the_column_second_half_the_row():
    columns, rows = sinusoidal_code(128, 6, 9).split(64)
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert torch.equal(rows, rows[:, :, :1].expand_as(rows))
    assert torch.equal(columns[:, 0, :6], rows[:, :, 0])
    assert torch.equal(columns[0, 0], torch.arange(9, dtype=torch.float64).sin().float())
    assert torch.equal(columns[1, 0], torch.arange(9, dtype=torch.float64).cos().float())


def test_transposing_the_grid_swaps_the_halves():
    code, transposed = sinusoidal_code(16, 5, 7), sinusoidal_code(16, 7, 5)
    assert torch.equal(code.roll(8, dims=0), transposed.transpose(1, 2))


def test_a_larger_grid_continues_a_smaller_one_and_positions_differ():
    code = sinusoidal_code(128, 64, 64)
    assert torch.equal(code[:, :8, :16], sinusoidal_code(128, 8, 16))
    positions = code.flatten(1).T
    distances = torch.cdist(positions, positions) + torch.eye(len(positions)) * 10
    assert distances.min() > 0.5


@pytest.mark.parametrize("channels", [2, 6, 127])
def test_channels_that_four_does_not_divide_are_refused(channels):
    with pytest.raises(ValueError, match=f"divisible by 4 .* got {channels}"):
        sinusoidal_code(channels, 2, 2)
