"""Random augmentation of batches: colour changes of the stated strength, and rotations about the centre."""

import pytest
import torch

from nfbench.blocks.augmentation import jitter_colors, rotate


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, side=64):
    return torch.rand(count, 3, side, side, generator=drawn(9))


def test_colours_are_jittered_as_strongly_as_said():
    images = 0.25 + 0.5 * noise(50)
    changed = jitter_colors(images, 0.1, drawn())
    torch.testing.assert_close(jitter_colors(images, 0.0, drawn()), images)
    ratio = changed.mean((1, 2, 3)) / images.mean((1, 2, 3))
    assert 0.9 < ratio.min() < 0.93
    assert 1.07 < ratio.max() < 1.1
    grey = images[:, :1].expand(-1, 3, -1, -1)
    turned = jitter_colors(grey, 0.1, drawn())
    torch.testing.assert_close(turned, turned[:, :1].expand_as(turned), atol=1e-6, rtol=0)  # grey has no hue


@pytest.mark.parametrize("side", [8, 9])
def test_images_are_turned_about_their_middle(side, monkeypatch):
    images = noise(2, side)
    for share, turns in ((0.75, -1), (0.25, 1), (0.5, 0)):
        monkeypatch.setattr(torch, "rand", lambda *size, share=share, **_: torch.full(size, share))
        assert torch.equal(rotate(images, 180, drawn()), images.rot90(turns, (2, 3)))
    monkeypatch.undo()
    assert (rotate(torch.ones(20, 3, 32, 32), 45, drawn())[:, :, 16, 16] == 1).all()
    assert rotate(images, 0, None) is images
