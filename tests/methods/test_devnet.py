"""DevNet: the described number of parameters, known losses, and a defect that is learned from few images."""

import pytest
import torch

from nfbench.blocks.deviation import anomalous_images, deviation_loss, top_mean
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, count_parameters, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.features.building import count_on
from nfbench.training.optimizer import Adam
from tests.tiny_models import build_tiny


def build(**overrides):
    return build_tiny("devnet", resolve_settings("devnet", overrides=overrides))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_described_number_of_parameters():
    backbone = BackboneConfig(name="resnet18.tv_in1k", levels=(4,), input_size=448, frozen=False)
    assert count_parameters(count_on(backbone, "devnet", resolve_settings("devnet")))["total"] == 11_177_025


def test_losses_at_known_scores():
    zero = torch.zeros(400)

    def loss(scores, anomalous):
        found = [deviation_loss(scores, torch.full_like(scores, anomalous), 5, 5000, drawn(n)) for n in range(50)]
        return torch.stack(found).mean().item()

    assert loss(zero, 0) == pytest.approx(0.8 / 5000**0.5, abs=0.004)  # 0.01, of the mean of the draws
    assert loss(zero, 1) == pytest.approx(5, abs=0.02)
    assert loss(zero + 2, 0) == pytest.approx(2, abs=0.02)
    assert loss(zero + 2, 1) == pytest.approx(3, abs=0.02)
    assert loss(zero + 7, 1) == 0
    one, other = (deviation_loss(zero, zero, 5, 5000, generator) for generator in (drawn(0), drawn(1)))
    assert one != other
    mixed, weights = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 2.0, 0.0])
    torch.testing.assert_close(
        deviation_loss(torch.tensor([9.0, 2.0, 0.0]), mixed, 5, 5000, drawn(), weights),
        deviation_loss(torch.tensor([2.0]), torch.ones(1), 5, 5000, drawn()),
    )


def test_the_score_is_the_mean_of_the_largest_tenth_of_absolute_values():
    positions = torch.arange(-99.0, 1).view(1, 1, 10, 10)
    assert top_mean(positions, 0.1).item() == pytest.approx(sum(range(90, 100)) / 10)
    assert top_mean(positions[..., :2, :2], 0.1).item() == 99


def test_an_image_is_anomalous_where_its_mask_is_anywhere():
    masks = torch.zeros(3, 4, 4)
    masks[1, 2, 2] = 0.2
    assert anomalous_images(torch.zeros(3, 3, 4, 4), masks).tolist() == [0, 1, 0]
    assert anomalous_images(torch.zeros(2, 3, 4, 4), None).tolist() == [0, 0]


def test_the_score_is_the_mean_over_sizes():
    method, images = build().eval(), torch.randn(2, 3, 32, 32, generator=drawn())
    with torch.no_grad():
        whole, half = (top_mean(method.head(method.network(x)[-1]), 0.1) for x in (images, images[..., ::2, ::2]))
        torch.testing.assert_close(method.score(Features([], images)).images, (whole + half) / 2)


def dotted(count, seed):
    """Noise, and the same with a bright dot at a random place."""
    generator = drawn(seed)
    images = 0.3 * torch.randn(2 * count, 3, 32, 32, generator=generator)
    masks = torch.zeros(2 * count, 32, 32)
    for number in range(count, 2 * count):
        row, column = (8 + torch.randint(12, (2,), generator=generator)).tolist()
        masks[number, row : row + 5, column : column + 5] = 1
    return images + 3 * masks[:, None], masks


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bright_dot_is_learned_from_few_images(sign):
    """Also with negative outputs of the head, because their absolute values count."""
    method = build()
    with torch.no_grad():
        method.head.weight.copy_(sign * method.head.weight.abs())
    optimizer = Adam(method.optimizer_groups(), 1e-3)
    images, masks = dotted(6, 0)
    method.train()
    for step in range(25):
        for loss in method.losses(Batch(Features([], images), masks), drawn(step)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        normal, anomalous = method.score(Features([], dotted(10, 1)[0])).images.chunk(2)
    assert anomalous.min() > normal.max()
    assert anomalous.mean() > 4
    assert normal.mean() < 1


def test_without_rotation_images_stay_as_they_are():
    images = torch.randn(2, 3, 32, 32, generator=drawn())
    assert build(rotation=0).turned(images, drawn()) is images
    turned = build().turned(images, drawn())
    black = build().pixels.normalized(torch.zeros(3, 1, 1))
    corners = (turned - black).abs().amax(1) < 1e-6
    assert 0.01 < corners.double().mean() < 0.25
